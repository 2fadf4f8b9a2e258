//! Files that lie, are cut short or are not models at all: an error each time, never a panic.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use patchmask::Error;
use patchmask::Model;
use safetensors::Dtype;

use crate::support::{File, Random, raw_file, refused};

fn load(bytes: &[u8]) -> Result<Model, Error> {
    Model::from_bytes(bytes)
}

#[test]
fn not_safetensors() {
    refused(load(b""), &["empty", "safetensors"]);
    refused(load(b"1234567"), &["7 bytes", "too short"]);
    refused(load(b"PK\x03\x04 a PyTorch zip archive"), &["header of", "safetensors"]);
    refused(load(&[0; 4096]), &["safetensors"]);
    refused(load(&[0xff; 4096]), &["18446744073709551615", "at most 1048576"]);
    refused(load(&raw_file("null", 0)), &["JSON"]);
    refused(load(&raw_file("{}", 0)), &["0 dense layers"]);
    let mut bytes = raw_file("{\"__\":1}", 0);
    bytes[10] = 0xff;
    refused(load(&bytes), &["UTF-8"]);
    refused(load(&raw_file(&"[".repeat(100_000), 0)), &["JSON"]);
    refused(load(&raw_file(&"{\"a\":".repeat(100_000), 0)), &["JSON"]);
    refused(load(&raw_file("{\"__metadata__\":{\"patchmask.stride\":7}}", 0)), &["JSON"]);
}

#[test]
fn truncated_or_extended() {
    let bytes = File::plain().bytes();
    for length in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
        refused(load(&bytes[..length]), &[]);
    }
    refused(load(&[&bytes[..], &[0]].concat()), &["truncated"]);
}

#[test]
fn header_length_beyond_the_file() {
    let mut bytes = File::plain().bytes();
    for (length, part) in [
        (1 << 60, "header of 1152921504606846976 bytes"),
        (u64::MAX, "header of 18446744073709551615 bytes"),
        ((1 << 20) + 1, "at most 1048576"),
        (1 << 20, "truncated"),
    ] {
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        refused(load(&bytes), &[part]);
    }
}

#[test]
fn sizes_beyond_the_file_or_the_address_space() {
    let tensor = |dtype: &str, shape: &str, start: u64, end: u64| {
        format!("{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{start},{end}]}}")
    };
    let file = |tensor: String| raw_file(&format!("{{\"features.0.weight\":{tensor}}}"), 64);
    // 100 GB that are not there.
    refused(load(&file(tensor("F32", "[25000000000]", 0, 100_000_000_000))), &["truncated"]);
    refused(load(&file(tensor("F32", "[25000000000]", 0, 64))), &["shape"]);
    // Products that overflow.
    refused(load(&file(tensor("F64", "[4294967296,4294967296,16]", 0, 64))), &["overflow"]);
    refused(load(&file(tensor("F64", "[9223372036854775808,2]", 0, 64))), &["12 digits"]);
    refused(load(&file(tensor("F64", "[18446744073709551616]", 0, 64))), &["12 digits"]);
    refused(load(&file(tensor("F64", "[8]", 64, 0))), &["offset"]);
    refused(load(&file(tensor("F64", "[-8]", 0, 64))), &["JSON"]);
    refused(load(&file(tensor("F64", "[8e30]", 0, 64))), &["JSON"]);
    refused(load(&file(tensor("F99", "[8]", 0, 64))), &["F99"]);
    refused(load(&file(tensor("F64", "[0,100000000000]", 0, 0))), &["truncated"]);
    // Offsets whose sum with the header's length overflows 64 bits, tensor by tensor legal.
    let step = (1u64 << 61) - 1;
    let tensors: Vec<String> =
        (0..8).map(|i| format!("\"t{i}\":{}", tensor("U8", &format!("[{step}]"), i * step, (i + 1) * step))).collect();
    refused(load(&raw_file(&format!("{{{}}}", tensors.join(",")), 64)), &["12 digits"]);
    // Digits in strings are no sizes.
    let file = File::plain().string("note", "\\\"0.12345678901234567890\\").string("n\"12345678901234", "");
    file.load().unwrap();
}

#[test]
fn very_many_tensors() {
    let mut file = File::plain();
    for number in 0..5000 {
        file.set(&format!("classifier.{}.bias", 10 + number), &[1], &[0.0]);
    }
    refused(file.load(), &["5002 dense layers", "1..=4"]);
    for number in 0..5000 {
        file.rename(&format!("classifier.{}.bias", 10 + number), &format!("layer{number}"));
    }
    refused(file.load(), &["unknown", "layer0", "and 4996 more"]);
}

/// Random damage with a fixed seed. What still loads is used, too.
#[test]
fn damaged_bytes_never_panic() {
    let seeds = [
        File::new(Dtype::F32, true, 1, 7, &[2])
            .string("patchmask.patch_size", "257")
            .string("patchmask.window", "-160,240")
            .string("patchmask.mean", "0.5")
            .bytes(),
        File::new(Dtype::F16, false, 3, 1, &[3, 2]).bytes(),
    ];
    let mut random = Random(20190607);
    let (mut loaded, mut refused) = (0, 0);
    for mutation in 0..6000 {
        let mut bytes = seeds[mutation % seeds.len()].clone();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for _ in 0..=random.below(3) {
            let limit = match random.below(8) {
                0 => 8,
                1 | 2 => bytes.len(),
                _ => header.min(bytes.len()),
            };
            let at = random.below(limit);
            match random.below(8) {
                0..=2 => bytes[at] ^= 1 << random.below(8),
                3 => bytes[at] = random.next() as u8,
                4 | 5 => bytes[at] = b"0123456789,:\"[]{}\\-."[random.below(20)],
                6 => bytes.insert(at, b"0123456789"[random.below(10)]),
                _ => bytes.truncate(at.max(8)),
            }
        }
        let result = catch_unwind(|| {
            let model = load(&bytes)?;
            model.describe();
            model.first_dense(1).and(model.first_dense(8))
        });
        match result.unwrap_or_else(|_| panic!("mutation {mutation} panicked")) {
            Ok(_) | Err(Error::InvalidArgument(_)) => loaded += 1,
            Err(Error::BadModel(text)) => {
                assert!(!text.is_empty() && text.len() < 600, "mutation {mutation}: {text}");
                refused += 1;
            }
            Err(other) => panic!("mutation {mutation}: {other:?}"),
        }
    }
    // Neither side of the test may be empty.
    assert!(loaded > 200 && refused > 2000, "{loaded} loaded, {refused} refused");
}

/// A directory of one test, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("patchmask-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn fails_to_read(path: &Path, reason: &str) {
    match Model::from_file(path) {
        Err(Error::Io(text)) => {
            assert!(text.contains(path.to_str().unwrap()), "no path in: {text}");
            assert!(text.contains(reason), "no {reason:?} in: {text}");
        }
        other => panic!("expected Io with {reason:?}, got {other:?}"),
    }
}

#[test]
fn files_on_disk() {
    let scratch = Scratch::new("files");
    let path = scratch.0.join("model.safetensors");
    fails_to_read(&path, "No such file");
    fails_to_read(&scratch.0, "not a regular file");

    fs::write(&path, b"").unwrap();
    refused(Model::from_file(&path), &["model.safetensors", "empty"]);
    fs::write(&path, b"hello, world").unwrap();
    refused(Model::from_file(&path), &["model.safetensors", "header of"]);
    // A sparse file: 100 GB by its length, nothing on disk.
    fs::File::options().write(true).open(&path).unwrap().set_len(100 << 30).unwrap();
    refused(Model::from_file(&path), &["model.safetensors", "107374182400 bytes", "at most"]);

    let bytes = File::plain().bytes();
    fs::write(&path, &bytes).unwrap();
    let model = Model::from_file(&path).unwrap();
    assert_eq!(model.describe(), load(&bytes).unwrap().describe());
}

/// Opening a FIFO would wait for a writer for ever.
#[cfg(unix)]
#[test]
fn a_fifo_is_refused_at_once() {
    let scratch = Scratch::new("fifo");
    let path = scratch.0.join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    fails_to_read(&path, "not a regular file");
    fails_to_read(Path::new("/dev/null"), "not a regular file");
}
