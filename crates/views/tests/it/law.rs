//! Law 1 and law 6 over random histories: whatever was delivered twice, cut anywhere, forgotten or spilled, an answer is
//! each row below its frontier exactly once, and a pin's answer never changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::cut::Cut;
use model::files::Files;
use proptest::prelude::*;
use views::catalog::Table;
use views::lambda::{Lambda, Pin};
use views::merge;
use views::realtime::{Applied, Options, RealtimeView};

use crate::disk::Disk;
use crate::log::{self, DATA, RECIPE, raw};

#[derive(Clone, Debug)]
enum Step {
    /// A range that begins around the end of what was delivered.
    Deliver {
        partition: u32,
        back: u64,
        skip: u64,
        length: u64,
    },
    /// An iteration that moves the cut on.
    Iterate {
        first: u64,
        second: u64,
    },
    Advance,
    Forget,
    Hold,
    Release,
    /// The speed layer begins again at the newest cut.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0u32..2, 0u64..4, 0u64..8, 1u64..6).prop_map(|(partition, back, skip, length)| Step::Deliver {
            partition, back, skip: u64::from(skip == 7), length
        }),
        2 => (0u64..7, 0u64..7).prop_map(|(first, second)| Step::Iterate { first, second }),
        2 => Just(Step::Advance),
        2 => Just(Step::Forget),
        1 => Just(Step::Hold),
        1 => Just(Step::Release),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..24)
}

fn check(pin: &Pin, files: &dyn Files) {
    let merged = merge::rows(pin, files, Path::new(DATA)).unwrap();
    assert_eq!(merged, log::expected(&pin.frontier), "cut {:?}", pin.manifest.cut);
    for table in [Table::Events, Table::FailedEvents] {
        let wide = merge::wide_rows(pin, table, files, Path::new(DATA)).unwrap();
        let expected = log::expected_wide(table, &pin.frontier);
        assert_eq!(wide, expected, "cut {:?}", pin.manifest.cut);
    }
}

fn run(steps: &[Step], memory_bytes_max: u64) {
    let files: Arc<dyn Files> = Arc::new(Disk::default());
    let catalog = Arc::new(log::open(&files));
    let spill = Some((files.clone(), PathBuf::from("/data/spill")));
    let view = Arc::new(RealtimeView::new(Options { memory_bytes_max, spill }));
    let lambda = Lambda::new(catalog.clone(), view.clone());
    let mut base = Cut::default();
    let mut held = Vec::new();
    let mut answered = Cut::default();
    for step in steps {
        match step {
            Step::Deliver { partition, back, skip, length } => {
                let partition = *partition;
                let next = view.frontier(RECIPE).of(&raw(partition)).max(base.of(&raw(partition)));
                let from = next.number().saturating_sub(*back) + if *back == 0 { *skip } else { 0 };
                let range = log::range(partition, from, from + length);
                let expect = match () {
                    () if range.to <= next => Applied::Known,
                    () if range.from > next => Applied::Gap,
                    () => Applied::Taken,
                };
                assert_eq!(view.apply(RECIPE, &base, log::chunk(range)).unwrap(), expect);
            }
            Step::Iterate { first, second } => {
                let cut = &catalog.newest().cut;
                let (first, second) =
                    (cut.of(&raw(0)).number() + first, cut.of(&raw(1)).number() + second);
                log::iterate(files.as_ref(), &catalog, &log::cut(first, second));
            }
            Step::Advance => {
                let newer = catalog.newest().iteration > lambda.served().iteration;
                assert_eq!(lambda.advance().unwrap(), newer);
            }
            Step::Forget => lambda.forget(),
            Step::Hold => held.push(lambda.pin().unwrap()),
            Step::Release => drop(held.pop()),
            Step::Restart => base = catalog.newest().cut.clone(),
        }
        let pin = lambda.pin().unwrap();
        assert_eq!(pin.frontier, lambda.served().cut.join(&view.frontier(RECIPE)));
        assert!(pin.frontier.is_at_or_beyond(&answered), "an answer got shorter");
        assert!(lambda.served().cut.is_at_or_beyond(&lambda.oldest_pinned_cut()));
        answered = pin.frontier.clone();
        check(&pin, files.as_ref());
    }
    for pin in &held {
        check(pin, files.as_ref());
    }
    drop(held);
    drop(lambda);
    drop(view);
    assert!(files.list(Path::new("/data/spill")).unwrap().is_empty(), "a spill file was left");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_answer_is_each_row_below_the_frontier_exactly_once(steps in steps(), spill in any::<bool>()) {
        run(&steps, if spill { 60_000 } else { u64::MAX });
    }
}
