use base64::Engine;
use model::position::*;
#[test]
fn speed() {
    for case in ["pixel_page_view", "redirect", "post_of_five"] {
        let b = std::fs::read_to_string(format!(
            "{}/tests/golden/{case}/record.b64",
            env!("CARGO_MANIFEST_DIR")
        ))
        .unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(b.trim()).unwrap();
        let recipe =
            enrich::Recipe::new(enrich::iglu::Schemas::embedded(), enrich::Settings::default());
        let partition = Partition::of_stream("raw", 0);
        let begin = std::time::Instant::now();
        let n = 20000;
        for i in 0..n {
            let r =
                RawRecord { partition: &partition, offset: Offset::from_number(i), bytes: &bytes };
            std::hint::black_box(enrich::enrich(&r, &recipe).unwrap());
        }
        println!("{case}: {:?} per record", begin.elapsed() / n as u32);
    }
}
