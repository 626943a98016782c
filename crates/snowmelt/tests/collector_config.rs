//! What the guide on replacing Snowplow's collector says, done literally: each example configuration is imported,
//! checked and served; and the ends of a process that has a spool.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Up, event_id, snowmelt, wait_until};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/collector-configs")
}

/// The commands of the guide's first block.
fn first_commands() -> Vec<String> {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs/guides/replace-the-snowplow-collector.md");
    let text = std::fs::read_to_string(guide).unwrap();
    let block = text.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    block.lines().map(str::to_owned).collect()
}

#[test]
fn the_guide_takes_over_all_three_layouts() {
    let commands = first_commands();
    assert_eq!(commands.len(), 2, "{commands:?}");
    let binary = snowmelt([""; 0]).get_program().to_owned();
    let folder = PathBuf::from(&binary).parent().unwrap().to_owned();
    for (layout, port, dropped) in [
        ("r89", 8081, "`collector.sink.kinesis.stream.good`"),
        ("2.x", 8082, "`collector.streams.good`"),
        ("3.x", 8083, "`streams.good.brokers`"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let example = examples().join(format!("{layout}.hocon"));
        std::fs::copy(example, dir.path().join("collector.hocon")).unwrap();
        let mut said = String::new();
        for command in &commands {
            // A shell, because the guide redirects; the binary of this build is found first.
            let path = format!("{}:/usr/bin:/bin", folder.display());
            let output = Command::new("sh")
                .args(["-c", command])
                .env_clear()
                .env("PATH", path)
                .current_dir(dir.path())
                .output()
                .unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{layout}: {command}: {stderr}");
            said.push_str(&stderr);
        }
        assert!(
            said.contains(&format!("dropped: {dropped}: this build has no such sink")),
            "{said}"
        );
        assert!(said.contains("note: records go to the embedded log"), "{said}");
        let toml = std::fs::read_to_string(dir.path().join("snowmelt.toml")).unwrap();
        assert!(toml.contains(&format!("collector.port = {port}")), "{toml}");
        let dump = snowmelt(["config", "dump", "--config", "snowmelt.toml"])
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&dump.stdout).contains(&format!("port = {port}")));
    }
}

#[test]
fn a_file_that_cannot_be_imported_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("collector.hocon");
    std::fs::write(&file, "collector {\n  include \"more.conf\"\n}\n").unwrap();
    let output = snowmelt(["config", "import"]).arg(&file).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("collector.hocon") && stderr.contains("line 2: `include"), "{stderr}");
}

#[test]
fn events_go_through_a_spool_and_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let settings = ["collector.durability.ack=spool", "stream.partitions=1", "batch.interval=1h"];
    let up = Up::start(dir.path(), &settings);
    let ids: Vec<String> = (0..50).map(event_id).collect();
    assert!(ids.iter().all(|id| up.send_ids(&[id]) == 200));
    up.kill9();
    let up = Up::start(dir.path(), &settings);
    let distinct = "SELECT count(DISTINCT event_id) FROM atomic.events";
    wait_until("what the spool held is in the log", || up.number(distinct) == 50);
    assert!(dir.path().join("spool/good/0").is_dir());
    let metrics = up.get("/metrics").1;
    assert!(metrics.contains("snowmelt_sink_healthy{sink=\"raw\"} 1"), "{metrics}");
    assert!(metrics.contains("snowmelt_spool_bytes{sink=\"raw\"}"), "{metrics}");
    assert!(up.terminate().success(), "nothing is left");
}
