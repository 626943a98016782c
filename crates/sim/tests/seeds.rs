//! The simulator as part of the test command: 200 seeds, each on the log alone and on the whole world.

#[test]
fn two_hundred_seeds_keep_every_promise() {
    let failures = sim::seeds::run(0, 200, sim::seeds::STEPS);
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
