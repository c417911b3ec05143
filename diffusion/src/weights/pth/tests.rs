#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::pickle::load;
use super::values::Value;
use super::*;

/// The folder of the fixtures: that of the source, or where the tests run elsewhere the same below the
/// working directory.
fn files() -> String {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pth/");
    if Path::new(own).is_dir() { own.to_owned() } else { "diffusion/tests/pth/".to_owned() }
}
/// Files that hold the state dict `small` and few other things, and the name that chooses it.
const SMALL_ONES: [(&str, Option<&str>); 7] = [
    ("protocol4.pth", None),
    ("protocol5_legacy.pth", None),
    ("unchecked.pth", None),
    ("wrapped.pth", None),
    ("wrapped.pth", Some("state_dict")),
    ("wrapped_legacy.pth", None),
    ("several_legacy.pth", Some("model")),
];

fn bytes_of(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}{name}", files())).unwrap()
}

fn read_bytes(bytes: &[u8], inside: Option<&str>) -> Result<Vec<PthTensor>> {
    read_from(Cursor::new(bytes), bytes.len() as u64, Wanted::Inside(inside))
}

fn refusal(bytes: &[u8]) -> String {
    read_bytes(bytes, None).unwrap_err().to_string()
}

/// Tensors that PyTorch says are in a file.
fn expected(name: &str) -> Vec<PthTensor> {
    let all: BTreeMap<String, BTreeMap<String, serde_json::Value>> =
        serde_json::from_slice(&bytes_of("expected.json")).unwrap();
    let kinds = [
        PthKind::F64,
        PthKind::F32,
        PthKind::F16,
        PthKind::BF16,
        PthKind::I64,
        PthKind::I32,
        PthKind::I16,
        PthKind::I8,
        PthKind::U8,
        PthKind::Bool,
    ];
    all[name]
        .iter()
        .map(|(name, tensor)| {
            let sides = tensor["shape"].as_array().unwrap().iter();
            let digits = tensor["data"].as_str().unwrap().as_bytes();
            let kind = tensor["kind"].as_str().unwrap();
            PthTensor {
                name: name.clone(),
                shape: sides.map(|side| side.as_u64().unwrap() as usize).collect(),
                kind: *kinds.iter().find(|known| format!("{known:?}") == kind).unwrap(),
                data: digits
                    .chunks(2)
                    .map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap())
                    .collect(),
            }
        })
        .collect()
}

/// Archives as torch writes them, around any pickle.
fn archive(pickle: &[u8], storages: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    writer.start_file("a/data.pkl", options).unwrap();
    writer.write_all(pickle).unwrap();
    for (key, bytes) in storages {
        let name = if key.contains('/') { (*key).to_owned() } else { format!("a/data/{key}") };
        writer.start_file(name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn stored(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    archive(pickle, storages, CompressionMethod::Stored)
}

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn number(number: i64) -> Vec<u8> {
    [&[0x8a, 8][..], &number.to_le_bytes()].concat()
}

fn tuple(numbers: &[i64]) -> Vec<u8> {
    let numbers: Vec<u8> = numbers.iter().flat_map(|&value| number(value)).collect();
    [b"(", &numbers[..], b"t"].concat()
}

/// The operations that make a tensor.
fn tensor(class: &str, count: i64, offset: i64, size: &[i64], stride: &[i64]) -> Vec<u8> {
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        format!("ctorch\n{class}\n").into_bytes(),
        text("0"),
        text("cpu"),
        number(count),
        b"tQ".to_vec(),
        number(offset),
        tuple(size),
        tuple(stride),
        b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
    ]
    .concat()
}

/// A state dict with one tensor `w`.
fn state_dict(tensor: &[u8]) -> Vec<u8> {
    [b"\x80\x02}", &text("w")[..], tensor, b"s."].concat()
}

fn fast<T>(run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = run();
    // Many times what it takes, even on a busy machine without optimisation.
    assert!(start.elapsed() < Duration::from_secs(20), "took {:?}", start.elapsed());
    result
}

#[test]
fn the_golden_checkpoint_equals_its_safetensors() {
    let Ok(fixtures) = std::env::var("PALETTE_FIXTURES") else {
        eprintln!("skipped: PALETTE_FIXTURES is not set");
        return;
    };
    let golden = Path::new(&fixtures).join("golden");
    let ours = read(&golden.join("janspiry_small_Network.pth"), None).unwrap();
    let bytes = std::fs::read(golden.join("janspiry_small.weights.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut theirs: Vec<_> = file.tensors();
    theirs.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(ours.is_sorted_by(|a, b| a.name < b.name));
    for (name, view) in &theirs {
        let tensor = ours.iter().find(|tensor| tensor.name == *name).unwrap();
        assert_eq!(view.dtype(), safetensors::Dtype::F32);
        assert_eq!((tensor.kind, &tensor.shape[..]), (PthKind::F32, view.shape()), "{name}");
        assert!(tensor.data == view.data(), "{name}");
    }
    // The checkpoint also has the buffers of the schedule.
    let surplus = ours.iter().filter(|ours| theirs.iter().all(|(name, _)| *name != ours.name));
    assert!(surplus.clone().all(|tensor| !tensor.name.contains('.')), "{:?}", surplus.count());

    let script = read(&golden.join("extractor.pt"), None).unwrap_err().to_string();
    assert!(script.contains("TorchScript"), "{script}");
}

#[test]
fn pytorchs_own_files_are_read_bit_for_bit() {
    for name in ["plain.pth", "plain_legacy.pth"] {
        let read = read(Path::new(&format!("{}{name}", files())), None).unwrap();
        assert_eq!(read, expected("plain"), "{name}");
        assert_eq!(read.len(), 16);
    }
    for (name, inside) in SMALL_ONES {
        assert_eq!(read_bytes(&bytes_of(name), inside).unwrap(), expected("small"), "{name}");
    }
    let ema = read_bytes(&bytes_of("several_legacy.pth"), Some("ema")).unwrap();
    assert_eq!(ema, expected("other"));
    // The call in it is never made; beside tensors it is just an entry that is no tensor.
    let attacked = read_bytes(&bytes_of("attack_entry_legacy.pth"), None).unwrap();
    assert_eq!(attacked, expected("weight"));
}

#[test]
fn what_is_no_state_dict_is_refused_with_its_reason() {
    for (name, inside, parts) in [
        ("attack.pth", None, ["`posix.system`", "never done"]),
        ("attack_legacy.pth", None, ["`posix.system`", "never done"]),
        ("module_legacy.pth", None, ["`__main__.Net`", "model.state_dict()"]),
        ("script.pth", None, ["TorchScript program", "torch.jit.load"]),
        ("several_legacy.pth", None, ["several state dicts", "`ema`, `model`"]),
        ("several_legacy.pth", Some("epoch"), ["no state dict `epoch`", "`ema`, `model`"]),
        ("plain.pth", Some("model"), ["no state dict `model`", "nor any other"]),
        ("expanded_legacy.pth", None, ["`weight`", "stride 0"]),
        ("complex_legacy.pth", None, ["`weight`", "ComplexFloatStorage"]),
        ("uint16_legacy.pth", None, ["`weight`", "uint16"]),
        ("sparse_legacy.pth", None, ["`weight`", "torch._utils._rebuild_sparse_tensor"]),
        ("make.py", None, ["not a file of torch.save", ""]),
    ] {
        let error = read_bytes(&bytes_of(name), inside).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{name}: {error}");
    }
    assert!(!Path::new("/tmp/pth-was-executed").exists());
    assert!(read(Path::new("/nowhere/at.all"), None).unwrap_err().to_string().contains("read"));
    assert!(read(Path::new(&files()), None).is_err());
    assert!(refusal(b"").contains("not a file of torch.save"));
}

#[test]
fn compressed_archives_are_read_and_big_endian_ones_refused() {
    let data: Vec<u8> = (0..24).collect();
    let pickle = state_dict(&tensor("FloatStorage", 6, 0, &[2, 3], &[3, 1]));
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let bytes = archive(&pickle, &[("0", &data), ("a/byteorder", b"little")], method);
        assert_eq!(read_bytes(&bytes, None).unwrap()[0].data, data);
        let bytes = archive(&pickle, &[("0", &data), ("a/byteorder", b"big")], method);
        assert!(refusal(&bytes).contains("`big` endian"));
    }
    let mut legacy = bytes_of("plain_legacy.pth");
    let place = legacy.windows(13).position(|part| part == b"little_endian").unwrap();
    let value = place + legacy[place..].iter().position(|&byte| byte == 0x88).unwrap();
    legacy[value] = 0x89;
    assert!(refusal(&legacy).contains("big endian"));
}

#[test]
fn a_changed_number_is_found_by_the_checksum() {
    let mut bytes = bytes_of("plain.pth");
    let base = &expected("plain").into_iter().find(|tensor| tensor.name == "base").unwrap().data;
    let place = bytes.windows(base.len()).position(|part| part == base).unwrap();
    bytes[place] ^= 1;
    assert!(refusal(&bytes).contains("checksum"));
}

#[test]
fn views_beyond_their_storage_and_storages_of_other_sizes_are_refused() {
    const MOST: i64 = i64::MAX;
    let data = [1; 24];
    let read = |class, count, offset, size: &[i64], stride: &[i64]| {
        let pickle = state_dict(&tensor(class, count, offset, size, stride));
        read_bytes(&stored(&pickle, &[("0", &data)]), None).map(|mut read| read.remove(0))
    };
    // These fit, the last only just.
    assert_eq!(read("FloatStorage", 6, 1, &[1, 1, 5], &[MOST, MOST, 1]).unwrap().data.len(), 20);
    assert_eq!(read("FloatStorage", 6, MOST, &[MOST, 8, 0], &[8, 1, 1]).unwrap().data.len(), 0);
    assert_eq!(read("CharStorage", 24, 2, &[3, 2], &[10, 1]).unwrap().shape, [3, 2]);
    assert_eq!(read("BoolStorage", 24, 0, &[24], &[1]).unwrap().kind, PthKind::Bool);
    for (class, count, offset, size, stride, part) in [
        ("FloatStorage", 6, 1, &[6][..], &[1][..], "beyond"),
        ("FloatStorage", 6, -1, &[1], &[1], "beyond"),
        ("FloatStorage", 6, MOST, &[1], &[1], "beyond"),
        ("FloatStorage", 6, 0, &[2, 2], &[MOST, 1], "beyond"),
        ("FloatStorage", 6, 0, &[MOST, MOST], &[1, 1], "beyond"),
        ("FloatStorage", 6, 0, &[2], &[-1], "negative"),
        ("FloatStorage", 6, 0, &[-2], &[1], "negative"),
        ("FloatStorage", 6, 0, &[2, 2], &[1], "strides"),
        ("FloatStorage", 6, 0, &[1; 33], &[1; 33], "dimensions"),
        ("FloatStorage", 5, 0, &[1], &[1], "24 bytes"),
        ("FloatStorage", MOST, 0, &[1], &[1], "24 bytes"),
        ("FloatStorage", -1, 0, &[1], &[1], "negative"),
        ("DoubleStorage", 6, 0, &[1], &[1], "24 bytes"),
        ("OddStorage", 6, 0, &[1], &[1], "torch.OddStorage"),
    ] {
        let error = read(class, count, offset, size, stride).unwrap_err().to_string();
        assert!(error.contains(part), "{class} {size:?} {stride:?}: {error}");
    }
    let pickle = state_dict(&tensor("BoolStorage", 2, 0, &[2], &[1]));
    assert!(refusal(&stored(&pickle, &[("0", &[1, 2])])).contains("truth values"));
    assert!(refusal(&stored(&pickle, &[])).contains("lacks `data/0`"));
}

#[test]
fn python_2_and_partial_storages_of_old_files_are_understood() {
    // OrderedDict([["w", tensor]]), with the third and fourth element of the storage.
    let pickle = [
        &b"ccollections\nOrderedDict\n]]U\x01wa"[..],
        b"ctorch._utils\n_rebuild_tensor\n((U\x07storagectorch.cuda\nFloatStorage\n",
        b"U\x010U\x06cuda:0I6\n(U\x01vK\x02K\x02ttQ",
        b"K\x00ctorch\nSize\n(K\x02t\x85RK\x01\x85tRaa\x85R.",
    ]
    .concat();
    let data: Vec<u8> = (0..24).collect();
    let read = read_bytes(&stored(&pickle, &[("0", &data)]), None).unwrap();
    assert_eq!((read[0].name.as_str(), &read[0].data[..]), ("w", &data[8..16]));
}

#[test]
fn names_in_messages_are_short_and_printable() {
    let pickle = format!("c\u{1b}[31mevil\n{}\n)R.", "x".repeat(1000));
    let error = refusal(&stored(pickle.as_bytes(), &[]));
    assert!(!error.contains('\u{1b}') && error.len() < 400, "{error}");
}

#[test]
fn bombs_are_small_and_quick() {
    let wrapped = |pickle: &[u8]| fast(|| refusal(&stored(pickle, &[("0", &[0; 24])])));
    // A list in a list in a list, on the stack and by appending to the memo's last.
    assert!(wrapped(&b"]".repeat(3 << 20)).contains("too early"));
    let deep = [&b"]".repeat(2 << 20), &b"a".repeat((2 << 20) - 2)[..], b"."].concat();
    assert!(wrapped(&deep).contains("no dictionary"));
    let deep = [b"]q\x00".to_vec(), b"]q\x01h\x00h\x01a0h\x01q\x000".repeat(300_000)].concat();
    assert!(wrapped(&[&deep[..], b"."].concat()).contains("no dictionary"));
    // A list that contains itself.
    assert!(wrapped(b"]q\x00h\x00a.").contains("no dictionary"));
    // A tuple of ten of the tuple before, and so on: 10^100000 tuples if they were copied.
    let mut laughs = b")q\x00".to_vec();
    for _ in 0..100_000 {
        laughs.extend_from_slice(b"0(h\x00h\x00h\x00h\x00h\x00h\x00h\x00h\x00h\x00h\x00tq\x00");
    }
    assert!(wrapped(&[&laughs[..], b"."].concat()).contains("no dictionary"));
    // Many names for one large dictionary, and many copies of one list of pairs.
    let mut names = [b"}(".to_vec(), b"NN".repeat(1 << 19), b"uq\x000}(".to_vec()].concat();
    for name in 0..(1_u32 << 19) {
        names.extend_from_slice(
            &[b"X\x04\0\0\0", &(name & 0x7f7f_7f7f).to_le_bytes()[..], b"h\x00"].concat(),
        );
    }
    assert!(wrapped(&[&names[..], b"u."].concat()).contains("no state dict"));
    let copies = [
        b"](NN\x86".to_vec(),
        b"2".repeat(1 << 16),
        b"e\x85q\x000".to_vec(),
        b"ccollections\nOrderedDict\nh\x00R0".repeat(1 << 10),
        b"N.".to_vec(),
    ]
    .concat();
    assert!(wrapped(&copies).contains("steps"));
    assert!(wrapped(&b"N0".repeat(1 << 22)).contains("steps"));
    assert!(wrapped(&b"N\x94".repeat(1 << 22)).contains("steps"));
    // Lengths that the file does not have.
    for claim in [
        &b"X\xff\xff\xff\xff"[..],
        b"B\xff\xff\xff\xff",
        b"T\xff\xff\xff\x7f",
        b"\x8b\xff\xff\xff\x7f",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"cos",
    ] {
        assert!(wrapped(claim).contains("the pickle cannot be read"));
    }
    // Numbers that many tensors share.
    let mut shared =
        [b"}".to_vec(), tensor("ByteStorage", 1 << 20, 0, &[1 << 20], &[1]), b"q\x000(".to_vec()]
            .concat();
    for name in 0..2000 {
        shared.extend([text(&name.to_string()), b"h\x00".to_vec()].concat());
    }
    let shared = stored(&[&shared[..], b"u."].concat(), &[("0", &vec![0; 1 << 20])]);
    assert!(fast(|| refusal(&shared)).contains("more than"));
    // Zeros in a thousandth of their size, as deflate can have them.
    let zeros = vec![0; 80 << 20];
    let pickle = state_dict(&tensor("ByteStorage", 80 << 20, 0, &[80 << 20], &[1]));
    let zeros = archive(&pickle, &[("0", &zeros)], CompressionMethod::Deflated);
    assert!(fast(|| refusal(&zeros)).contains("more than"));
    // A pickle larger than any.
    let large = archive(&vec![b'N'; 33 << 20], &[], CompressionMethod::Deflated);
    assert!(fast(|| refusal(&large)).contains("larger than"));
}

#[test]
fn directories_that_lie_are_refused() {
    let pickle = state_dict(&tensor("ByteStorage", 4, 0, &[4], &[1]));
    let good = stored(&pickle, &[("0", &[1, 2, 3, 4])]);
    let end = good.len() - 22;
    let set = |at: usize, bytes: &[u8]| {
        let mut lying = good.clone();
        lying[at..at + bytes.len()].copy_from_slice(bytes);
        fast(|| refusal(&lying))
    };
    let last = good.windows(4).rposition(|part| part == b"PK\x01\x02").unwrap();
    assert!(set(end + 10, &[0xff, 0xff]).contains("damaged"));
    assert!(set(end + 12, &[0xff; 4]).contains("too many entries"));
    assert!(set(end + 16, &[0xff; 4]).contains("damaged"));
    assert!(set(last + 8, &[1]).contains("encrypted"));
    assert!(set(last + 10, &[99]).contains("compressed in a way"));
    assert!(set(last + 20, &[0xfe, 0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff]).contains("damaged"));
    assert!(set(last + 20, &[0xff; 8]).contains("damaged"));
    assert!(set(last + 42, &[0xff, 0xff, 0xff, 0x7f]).contains("damaged"));
    assert!(set(last + 42, &[1]).contains("damaged"));
    assert!(refusal(&[b"PK", &good[..]].concat()).contains("damaged"));
    assert!(refusal(&[&good[..], b"PK"].concat()).contains("end is missing"));
    let twice = stored(&pickle, &[("0", &[1; 4]), ("b/data.pkl", b".")]);
    assert!(refusal(&twice).contains("more than one `data.pkl`"));
}

#[test]
fn sizes_in_64_bits_are_read() {
    // An entry whose sizes and place all stand in the extra field, after another field.
    let pickle = state_dict(&tensor("ByteStorage", 4, 0, &[4], &[1]));
    let good = stored(&pickle, &[("0", &[1, 2, 3, 4])]);
    let last = good.windows(4).rposition(|part| part == b"PK\x01\x02").unwrap();
    let end = good.len() - 22;
    let place = u32::from_le_bytes(good[last + 42..last + 46].try_into().unwrap());
    let name = usize::from(good[last + 28]);
    let mut extra = vec![9, 9, 2, 0, 0, 0, 1, 0, 24, 0];
    for value in [4, 4, u64::from(place)] {
        extra.extend_from_slice(&value.to_le_bytes());
    }
    let mut long = good[..last + 46 + name].to_vec();
    long[last + 20..last + 28].fill(0xff);
    long[last + 42..last + 46].fill(0xff);
    long[last + 30] = extra.len() as u8;
    long.extend_from_slice(&extra);
    let start = u32::from_le_bytes(good[end + 16..end + 20].try_into().unwrap());
    let size = (long.len() - start as usize) as u32;
    long.extend_from_slice(&good[end..]);
    let end = long.len() - 22;
    long[end + 12..end + 16].copy_from_slice(&size.to_le_bytes());
    assert_eq!(read_bytes(&long, None).unwrap()[0].data, [1, 2, 3, 4]);
}

/// All files that torch wrote.
fn good_files() -> Vec<Vec<u8>> {
    let mut names: Vec<_> = std::fs::read_dir(files())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".pth"))
        .collect();
    names.sort();
    names.iter().map(|name| bytes_of(name)).collect()
}

#[test]
fn files_cut_off_anywhere_are_errors() {
    for bytes in good_files() {
        for length in 0..bytes.len() {
            assert!(read_bytes(&bytes[..length], None).is_err(), "{length}");
        }
    }
}

/// The pickle of an archive and its storages.
fn unpacked(bytes: &[u8]) -> (Vec<u8>, Vec<(String, Vec<u8>)>) {
    let mut archive = archive::Archive::open(Cursor::new(bytes), bytes.len() as u64).unwrap();
    let pickle = archive.pickle().unwrap();
    let storages = (0..20).map(|key| key.to_string());
    let storages = storages.filter_map(|key| archive.read(&key).ok().map(|bytes| (key, bytes)));
    (pickle, storages.collect())
}

/// Operations that mean something, for programs that get further than random bytes.
fn operation() -> impl Strategy<Value = Vec<u8>> {
    let whole: Vec<Vec<u8>> = vec![
        b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec(),
        b"ctorch._utils\n_rebuild_tensor_v3\n".to_vec(),
        b"ctorch._utils\n_rebuild_parameter\n".to_vec(),
        b"ctorch._tensor\n_rebuild_from_type_v2\n".to_vec(),
        b"ctorch\nTensor\n".to_vec(),
        b"ctorch\nFloatStorage\n".to_vec(),
        b"ctorch\nfloat32\n".to_vec(),
        b"ccollections\nOrderedDict\n".to_vec(),
        b"cos\nsystem\n".to_vec(),
        text("storage"),
        text("0"),
        text("w"),
        tensor("FloatStorage", 6, 0, &[2, 3], &[1, 2]),
        tensor("FloatStorage", 6, 0, &[2, 3], &[3, 1])[34..].to_vec(),
        tuple(&[2, 3]),
        tuple(&[]),
        number(-1),
        number(6),
        b"I7\n".to_vec(),
        b"F7.5\n".to_vec(),
        b"G12345678".to_vec(),
        b"C\x02ab".to_vec(),
        b"\x8a\x09123456789".to_vec(),
        b"q\x00".to_vec(),
        b"q\x01".to_vec(),
        b"h\x00".to_vec(),
        b"h\x01".to_vec(),
    ];
    let bare = b"(012NRQabdelstu])}\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94";
    let bare = bare.iter().map(|&byte| vec![byte]).collect::<Vec<_>>();
    prop_oneof![proptest::sample::select(whole), proptest::sample::select(bare)]
}

#[test]
fn whatever_is_changed_in_a_good_file_nothing_panics() {
    // Every byte of every file, to a few values; the checksum is 0, so unchecked, in one of them.
    fast(|| {
        for bytes in good_files() {
            for at in 0..bytes.len() {
                for change in [0x01, 0x80, 0xff] {
                    let mut changed = bytes.clone();
                    changed[at] ^= change;
                    let _ = read_bytes(&changed, None);
                }
            }
        }
        // The checksum hides the pickle of an archive from the above.
        for name in ["plain.pth", "protocol4.pth"] {
            let (pickle, storages) = unpacked(&bytes_of(name));
            let storages: Vec<_> =
                storages.iter().map(|(key, bytes)| (key.as_str(), &bytes[..])).collect();
            assert_eq!(
                read_bytes(&stored(&pickle, &storages), None).unwrap(),
                read_bytes(&bytes_of(name), None).unwrap()
            );
            for at in 0..pickle.len() {
                for value in [0, 0xff, b'(', b'R', b'0', pickle[at].wrapping_add(1)] {
                    let mut changed = pickle.clone();
                    changed[at] = value;
                    let _ = read_bytes(&stored(&changed, &storages), None);
                }
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = load(&bytes);
        let _ = read_bytes(&bytes, None);
        let _ = read_bytes(&[b"PK", &bytes[..]].concat(), None);
        let _ = read_bytes(&stored(&bytes, &[("0", &[0; 24])]), None);
        // After the first three pickles of the old format.
        let old = bytes_of("attack_legacy.pth");
        let start = old.windows(2).rposition(|part| part == b"\x80\x02").unwrap();
        let object = old[..start].windows(2).rposition(|part| part == b"\x80\x02").unwrap();
        let _ = read_bytes(&[&old[..object], &bytes].concat(), None);
    }

    #[test]
    fn random_programs_never_panic(program in proptest::collection::vec(operation(), 0..40)) {
        let program = [b"}", &text("w")[..], &program.concat(), b"s."].concat();
        let _ = read_bytes(&stored(&program, &[("0", &[0; 24])]), None);
    }

    #[test]
    fn every_view_is_what_indexing_says(
        sides in proptest::collection::vec(1_i64..5, 0..4),
        strides in proptest::collection::vec(1_i64..12, 4),
        offset in 0_i64..20,
    ) {
        let strides = &strides[..sides.len()];
        let data: Vec<u8> = (0..64_u8).flat_map(|value| [value, !value]).collect();
        let pickle = state_dict(&tensor("ShortStorage", 64, offset, &sides, strides));
        let read = read_bytes(&stored(&pickle, &[("0", &data)]), None);
        let mut places = vec![offset];
        for (&side, &stride) in sides.iter().zip(strides) {
            places = places
                .iter()
                .flat_map(|&place| (0..side).map(move |step| place + step * stride))
                .collect();
        }
        if places.iter().any(|&place| place >= 64) {
            prop_assert!(read.is_err());
        } else {
            let wanted: Vec<u8> =
                places.iter().flat_map(|&place| [place as u8, !place as u8]).collect();
            prop_assert_eq!(&read.unwrap()[0].data, &wanted);
        }
    }
}

#[test]
fn numbers_of_a_pickle_keep_their_sign_and_size() {
    for (bytes, wanted) in [
        (&b"J\xff\xff\xff\xff."[..], -1),
        (b"K\xff.", 255),
        (b"M\xff\xff.", 65535),
        (b"\x8a\x00.", 0),
        (b"\x8a\x01\xff.", -1),
        (b"\x8a\x02\xff\x00.", 255),
        (b"\x8b\x02\x00\x00\x00\x00\x80.", -32768),
        (b"I-12\n.", -12),
        (b"L12L\n.", 12),
    ] {
        let top = load(bytes).unwrap().top;
        assert!(matches!(top, Value::Int(number) if number == wanted), "{top:?}");
    }
    assert!(matches!(load(b"I01\n.").unwrap().top, Value::Bool(true)));
    assert!(matches!(load(b"\x8a\x09\0\0\0\0\0\0\0\0\x01.").unwrap().top, Value::Long(_)));
    for wrong in [&b"."[..], b"N(.", b"t.", b"N(00.", b"h\x00.", b"N)R.", b"Nb.", b"NNs.", b"x."] {
        assert!(load(wrong).is_err(), "{wrong:?}");
    }
}
