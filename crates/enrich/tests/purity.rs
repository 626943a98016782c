//! The rule that the crate's boundary is there for: nothing that reads a clock, draws a random number or reaches the
//! outside is among the dependencies.

use std::process::Command;

/// Names of crates, and beginnings of names that end in `-`.
const FORBIDDEN: &[&str] = &[
    "async-",
    "chrono",
    "hyper",
    "mio",
    "object_store",
    "openssl",
    "rand",
    "reqwest",
    "rustls",
    "socket2",
    "time",
    "tokio",
    "tokio-",
    "ureq",
];

#[test]
fn no_runtime_clock_randomness_or_network_is_among_the_dependencies() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "-p", "enrich", "-e", "normal", "--prefix", "none", "--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs this test, so it is there");
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(tree.lines().count() > 10, "{}", String::from_utf8_lossy(&output.stderr));
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    let found: Vec<&str> = names
        .filter(|name| {
            FORBIDDEN.iter().any(|bad| name == bad || bad.ends_with('-') && name.starts_with(bad))
        })
        .collect();
    assert!(found.is_empty(), "{found:?}");
}
