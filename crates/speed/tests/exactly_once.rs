//! Each raw record between cut and frontier stands in the real-time view once, whatever happens to the process and to
//! what it wrote.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod site;

use model::cut::Cut;
use proptest::prelude::*;
use site::{PARTITIONS, Sent, Site, all, cut, recipe, recipe_without_failed_events};
use speed::enricher::Progress;
use speed::output::Kind;
use stream::Stream;

use Sent::{Boxed, Garbage, Long, Several, View};

const KINDS: [Kind; 3] = [Kind::Enriched, Kind::Bad, Kind::Failed];

fn a_site_with_records() -> Site {
    let mut site = Site::new();
    for partition in 0..PARTITIONS {
        site.send(
            partition,
            &[View, Several, Garbage, Boxed, View, Long, Garbage, Garbage, Several, View, View],
        );
    }
    site
}

#[test]
fn the_view_shows_what_enriching_the_log_in_order_gives() {
    let mut site = a_site_with_records();
    site.settle();
    site.check();
    let shown = site.shown();
    let failed = shown.failed_events.len();
    assert_eq!((shown.events.len(), shown.bad_rows.len(), failed), (2 * 12, 2 * 5, 2 * 2));
    assert!(shown.failed_events.keys().all(|position| shown.bad_rows.contains_key(position)));
}

#[test]
fn the_counts_of_the_marks_close_with_the_rows() {
    let mut site = a_site_with_records();
    site.settle();
    let (records, counts) = site.marked();
    let shown = site.shown();
    assert!(counts.closes());
    assert_eq!(records, 22);
    assert_eq!(counts.enriched, shown.events.len() as u64);
    assert_eq!(counts.bad + counts.failed, shown.bad_rows.len() as u64);
    assert_eq!(counts.failed, shown.failed_events.len() as u64);
}

#[test]
fn records_that_yield_only_bad_rows_move_the_frontier() {
    let mut site = Site::new();
    site.send(0, &[Garbage, Garbage]);
    site.settle();
    assert_eq!(site.loader.frontier(), cut(2, 0));
    assert_eq!((site.shown().events.len(), site.shown().bad_rows.len()), (0, 2));
}

#[test]
fn a_restart_after_any_number_of_steps_changes_nothing() {
    for steps in 0..8 {
        let mut site = a_site_with_records();
        for _ in 0..steps {
            site.enricher.step().unwrap();
        }
        let reached = site.enricher.frontier();
        site.restart();
        assert_eq!(site.enricher.frontier(), reached, "what was written is not written again");
        site.settle();
        site.check();
    }
}

#[test]
fn a_torn_tail_of_any_stream_is_written_again() {
    let counts = [1, 3, 100];
    for (of, entries) in KINDS.into_iter().flat_map(|of| counts.map(|count| (of, count))) {
        let mut site = a_site_with_records();
        site.settle();
        site.config.batch_bytes = 700;
        site.tear(of, entries);
        assert!(!site.enricher.frontier().is_at_or_beyond(&site.ends()));
        site.settle();
        site.check();
    }
}

#[test]
fn ranges_of_other_lengths_after_each_of_several_torn_tails_still_join() {
    let mut site = a_site_with_records();
    site.settle();
    for (of, entries, batch_bytes) in [
        (Kind::Bad, 100, 900),
        (Kind::Enriched, 2, 4000),
        (Kind::Failed, 2, 1500),
        (Kind::Bad, 3, 300),
        (Kind::Enriched, 1, 100_000),
        (Kind::Bad, 1, 2000),
        (Kind::Failed, 100, 700),
    ] {
        site.config.batch_bytes = batch_bytes;
        site.tear(of, entries);
        site.enricher.step().unwrap();
    }
    site.restart();
    site.settle();
    site.check();
}

#[test]
fn entries_that_are_delivered_twice_change_nothing() {
    for of in KINDS {
        let mut site = a_site_with_records();
        site.settle();
        site.change(of, |entries| {
            *entries = entries.iter().flat_map(|entry| [entry.clone(), entry.clone()]).collect();
        });
        site.settle();
        site.check();
    }
}

#[test]
fn damage_is_enriched_again_from_the_last_good_range_on() {
    for of in KINDS {
        for at in 0..6 {
            let mut site = a_site_with_records();
            site.settle();
            site.damage(of, at);
            site.settle();
            site.check();
        }
    }
}

#[test]
fn a_lost_stream_is_enriched_again_from_the_cut_on() {
    let mut site = a_site_with_records();
    site.settle();
    site.raise(&cut(4, 7));
    site.tear(Kind::Bad, usize::MAX);
    assert_eq!(site.enricher.frontier(), cut(4, 7));
    site.settle();
    site.check();
}

#[test]
fn entries_lost_while_running_are_noticed_and_written_again() {
    let mut site = a_site_with_records();
    while site.enricher.step().unwrap() == Progress::Moved {}
    // The enricher goes on with what it remembers; the loader finds nothing.
    let stuck = site.enricher.frontier();
    for stream in [&site.enriched, &site.bad, &site.failed] {
        for partition in stream.partitions() {
            stream.trim(partition, stream.end(partition).unwrap()).unwrap();
        }
    }
    assert_eq!(site.loader.step().unwrap(), Progress::Idle);
    assert_eq!(site.enricher.frontier(), stuck);
    site.settle();
    site.check();
}

/// An older program wrote no failed stream, and its recipe made no failed events.
#[test]
fn what_a_program_without_failed_events_wrote_is_written_again_from_the_cut_on() {
    let mut site = a_site_with_records();
    let newer = std::mem::replace(&mut site.recipe, recipe_without_failed_events());
    site.restart();
    site.settle();
    site.cut = cut(4, 7);
    site.tear(Kind::Failed, usize::MAX);
    assert_eq!(site.enricher.frontier(), cut(4, 7));
    site.settle();
    site.check();
    assert!(site.shown().failed_events.is_empty());
    site.restart();
    assert_eq!(site.enricher.frontier(), site.ends(), "once");
    site.switch(newer, cut(5, 8));
    site.settle();
    site.check();
    assert_eq!(site.shown().failed_events.len(), 2);
}

#[test]
fn a_cut_beyond_the_frontier_is_jumped_to() {
    let mut site = a_site_with_records();
    site.enricher.step().unwrap();
    site.raise(&cut(9, 8));
    assert!(site.enricher.frontier().is_at_or_beyond(&cut(9, 8)));
    site.settle();
    site.check();
    assert_eq!(site.expected(&site.recipe, &site.cut, &site.ends()), site.shown());
}

#[test]
fn raw_trimmed_below_the_cut_is_not_asked_for() {
    let mut site = a_site_with_records();
    site.cut = cut(5, 5);
    for partition in site.raw.partitions() {
        site.raw.trim(partition, "4".parse().unwrap()).unwrap();
    }
    site.restart();
    site.settle();
    site.check();
}

#[test]
fn raw_trimmed_beyond_the_known_cut_waits_for_a_newer_cut() {
    let mut site = a_site_with_records();
    for partition in site.raw.partitions() {
        site.raw.trim(partition, "4".parse().unwrap()).unwrap();
    }
    assert!(matches!(site.enricher.step(), Err(speed::Error::BelowTheLog { .. })));
    site.raise(&cut(4, 4));
    site.settle();
    site.check();
}

#[test]
fn both_recipes_can_be_asked_after_a_switch() {
    let mut site = a_site_with_records();
    site.settle();
    let (old, old_cut) = (std::sync::Arc::clone(&site.recipe), site.cut.clone());
    site.switch(recipe(false), cut(3, 2));
    assert_eq!(site.enricher.frontier(), cut(3, 2));
    site.send(0, &[View, Boxed]);
    site.settle();
    site.check();
    let old_frontier = site.view.snapshot(old.digest()).frontier;
    assert_eq!(old_frontier, cut(11, 11));
    let before = site.expected(&old, &old_cut, &old_frontier);
    assert_eq!(site.shown_with(&old, &old_cut), before);
    let after = site.expected(&site.recipe, &old_cut, &old_frontier);
    assert_ne!(before, after, "the recipes differ in something");
    site.restart();
    assert_eq!(site.enricher.frontier(), site.ends(), "the new recipe's entries are found again");
    site.settle();
    site.check();
}

#[test]
fn entries_below_the_oldest_cut_in_use_are_forgotten_and_no_others() {
    let mut site = Site::new();
    (site.config.batch_bytes, site.config.entry_bytes_max) = (1, 1 << 20);
    site.restart();
    for _ in 0..400 {
        site.send(0, &[Long]);
    }
    site.settle();
    let kept = |site: &Site| all(&site.enriched, &site.enriched.partitions()[0]).len();
    site.loader.forget(&cut(0, 0), usize::MAX).unwrap();
    assert_eq!(kept(&site), 400);
    site.raise(&cut(300, 0));
    site.loader.forget(&cut(300, 0), usize::MAX).unwrap();
    assert!((100..300).contains(&kept(&site)), "{} are kept", kept(&site));
    site.restart();
    assert_eq!(site.enricher.frontier(), cut(400, 0), "they still reach back to the cut");
    site.settle();
    site.check();
    site.loader.forget(&cut(300, 0), 100_000).unwrap();
    site.restart();
    assert_eq!(site.enricher.frontier(), cut(300, 0), "the bound on bytes is the stronger one");
    site.settle();
    site.check();
}

#[derive(Clone, Debug)]
enum Event {
    Send(u32, Vec<Sent>),
    Enrich,
    Load,
    Restart(usize),
    Tear(Kind, usize),
    Damage(Kind, usize),
    /// The cut goes to this share of the log, in tenths.
    Raise(u64),
    Switch(u64, bool),
    Forget(usize),
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Enriched), Just(Kind::Bad), Just(Kind::Failed)]
}

fn events() -> impl Strategy<Value = Event> {
    let sent = prop_oneof![Just(View), Just(Several), Just(Garbage), Just(Boxed), Just(Long)];
    prop_oneof![
        4 => (0..PARTITIONS, proptest::collection::vec(sent, 1..6)).prop_map(|(p, sent)| Event::Send(p, sent)),
        4 => Just(Event::Enrich),
        3 => Just(Event::Load),
        1 => (100usize..5000).prop_map(Event::Restart),
        2 => (kind(), 0usize..4).prop_map(|(of, count)| Event::Tear(of, count)),
        1 => (kind(), 0usize..9).prop_map(|(of, at)| Event::Damage(of, at)),
        1 => (0u64..11).prop_map(Event::Raise),
        1 => (0u64..11, any::<bool>()).prop_map(|(tenths, knows_boxes)| Event::Switch(tenths, knows_boxes)),
        1 => (0usize..20_000).prop_map(Event::Forget),
    ]
}

fn a_later_cut(site: &Site, tenths: u64) -> Cut {
    let ends = site.ends();
    let at = |(partition, end): (_, model::position::Offset)| {
        (Clone::clone(partition), model::position::Offset::from_number(end.number() * tenths / 10))
    };
    site.cut.join(&ends.iter().map(at).collect())
}

fn happen(site: &mut Site, event: Event) {
    match event {
        Event::Send(partition, sent) => site.send(partition, &sent),
        Event::Enrich => drop(site.enricher.step().unwrap()),
        Event::Load => drop(site.loader.step().unwrap()),
        Event::Restart(batch_bytes) => {
            site.config.batch_bytes = batch_bytes;
            site.restart();
        }
        Event::Tear(of, count) => site.tear(of, count),
        Event::Damage(of, at) => site.damage(of, at),
        Event::Raise(tenths) => site.raise(&a_later_cut(site, tenths)),
        Event::Switch(tenths, knows_boxes) => {
            let cut = a_later_cut(site, tenths);
            site.switch(recipe(knows_boxes), cut);
        }
        Event::Forget(bytes) => site.loader.forget(&site.cut.clone(), bytes).unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_view_shows_each_record_once(events in proptest::collection::vec(events(), 1..40)) {
        let mut site = Site::new();
        for event in events {
            happen(&mut site, event);
            site.check();
        }
        site.settle();
        site.check();
        prop_assert_eq!(site.shown(), site.expected(&site.recipe, &site.cut, &site.ends()));
    }
}
