//! Manifests: any body in a right envelope, or any bytes at all; read alone, and as the catalogue of a folder.

use std::path::Path;
use std::sync::Arc;

use model::files::{self, Files, Published};
use sha2::{Digest, Sha256};
use sim::disk::Disk;
use views::catalog::{Catalog, Manifest};

/// Lines are the bodies of iterations 0, 1, …; a line that begins with a space is a whole file as it stands, with `@n`
/// for a line feed.
pub(crate) fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let disk = Disk::new(1, 64 << 20);
    let data_dir = Path::new("/data");
    for (iteration, line) in text.split('\n').take(4).enumerate() {
        let path = data_dir.join(format!("catalog/{iteration:020}.json"));
        let file = match line.strip_prefix(' ') {
            Some(whole) => whole.replace("@n", "\n"),
            None => enveloped(line),
        };
        if let Ok(manifest) = Manifest::decode(&path, file.as_bytes()) {
            let written = manifest.encode();
            let again = Manifest::decode(&path, &written).expect("a manifest reads back");
            assert_eq!(again, manifest);
            assert_eq!(again.encode(), written);
        }
        let published = files::publish(&disk, &path, file.as_bytes());
        assert!(matches!(published, Ok(Published::New)));
    }
    open(disk, data_dir);
}

fn enveloped(body: &str) -> String {
    let digest: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{{\"format\":1,\n\"sha256\":\"{digest}\",\n\"manifest\":{body}\n}}\n")
}

/// What opens is what was written, in order.
fn open(disk: Disk, data_dir: &Path) {
    let files: Arc<dyn Files> = Arc::new(disk);
    let Ok(Some(catalog)) = Catalog::open_read(files, data_dir) else { return };
    let newest = catalog.newest();
    if let Ok(history) = catalog.history() {
        assert_eq!(history.last(), Some(&*newest));
        assert!((0..).zip(&history).all(|(iteration, it)| it.iteration == iteration));
    }
    let _ = catalog.last_of_generation(newest.generation);
    let _ = newest.cut_of_ledger();
}
