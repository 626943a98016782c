//! Files of the master dataset: any frames and any footer, with lengths and checksums made right where the footer leaves
//! room for them: `@stored`, `@plain`, `@crc` and `@sha` stand for those of the one frame.

use std::path::Path;

use batch::master::{self, Reader, Writer};
use model::files::{self, Published};
use model::position::{Offset, Partition};
use sha2::{Digest, Sha256};
use sim::disk::Disk;

use crate::input::Input;

const HEADER: &[u8] = b"SNOWRAW\n\x01\0\0\0";

pub(crate) fn file(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mode = input.byte();
    let content = input.piece();
    let file = match mode & 1 {
        0 => [content, input.rest()].concat(),
        _ => assembled(mode & 2 != 0, content, &String::from_utf8_lossy(input.rest())),
    };
    let (disk, data_dir) = (Disk::new(1, 64 << 20), Path::new("/data"));
    let partition = Partition::of_stream("raw", 0);
    let path = master::path(data_dir, &partition, Offset::BEGINNING);
    assert!(matches!(files::publish(&disk, &path, &file), Ok(Published::New)));
    let _ = master::chain(&disk, data_dir, &partition, Offset::BEGINNING, Offset::BEGINNING);
    let Ok(Some(mut reader)) = Reader::open(&disk, data_dir, &partition, Offset::BEGINNING) else {
        return;
    };
    let mut records = Vec::new();
    loop {
        match reader.read_frame() {
            Ok(Some(frame)) => records.extend(frame),
            Ok(None) => break,
            Err(_) => return,
        }
    }
    // What is whole is written again as a file that says the same.
    let footer = reader.footer();
    assert_eq!(footer.records, records.len() as u64);
    let mut writer = Writer::new(partition, Offset::BEGINNING);
    records.iter().for_each(|record| writer.push(record));
    let (_, again) = writer.finish(footer.range.to);
    assert_eq!((again.first, again.last), (footer.first, footer.last));
    assert_eq!((again.records, again.bytes), (footer.records, footer.bytes));
}

fn assembled(compress: bool, content: &[u8], footer: &str) -> Vec<u8> {
    let frame = match compress {
        true => zstd::bulk::compress(content, 1).expect("memory takes all that is written"),
        false => content.to_vec(),
    };
    let mut file = [HEADER, &frame].concat();
    let digest: String = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
    let footer = footer
        .replace("@stored", &frame.len().to_string())
        .replace("@plain", &content.len().to_string())
        .replace("@crc", &crc32c::crc32c(&frame).to_string())
        .replace("@sha", &digest);
    file.extend_from_slice(footer.as_bytes());
    file.extend_from_slice(&(footer.len() as u32).to_le_bytes());
    file.extend_from_slice(&crc32c::crc32c(footer.as_bytes()).to_le_bytes());
    file.extend_from_slice(b"\x01\0\0\0SNOWEND\n");
    file
}
