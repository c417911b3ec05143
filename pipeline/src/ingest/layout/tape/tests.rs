//! Archives of every form, byte by byte.

use super::*;

/// A header of GNU (`ustar  `) or POSIX form, with what comes behind it.
fn block(name: &str, kind: u8, content: &[u8], change: impl FnOnce(&mut [u8; 512])) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(content.len() as u64);
    change(header.as_mut_bytes());
    header.set_cksum();
    let mut bytes = [header.as_bytes(), content].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn plain(name: &str, content: &[u8]) -> Vec<u8> {
    block(name, b'0', content, |_| {})
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut text = String::new();
    for (key, value) in records {
        let rest = format!(" {key}={value}\n");
        let length = (1..).find(|n: &usize| n.to_string().len() + rest.len() == *n).unwrap();
        text.push_str(&format!("{length}{rest}"));
    }
    block("PaxHeaders/x", b'x', text.as_bytes(), |_| {})
}

fn ended(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

/// Names and contents of the files.
fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let text = |fault: Fault| format!("{fault:?}");
    let mut tape = Tape::new(Forward(bytes));
    let mut all = Vec::new();
    while let Some(head) = tape.next().map_err(text)? {
        let mut content = Vec::new();
        if head.kind == Kind::File {
            tape.content(&head).read_to_end(&mut content).map_err(|e| e.to_string())?;
            assert_eq!(content.len() as u64, head.size);
            all.push((String::from_utf8(head.name).unwrap(), content));
        }
    }
    // The same by seeking over contents.
    let seeking = BufReader::with_capacity(64, io::Cursor::new(bytes));
    let mut tape = Tape::new(Seeking(seeking));
    let mut names = Vec::new();
    while let Some(head) = tape.next().map_err(text)? {
        if head.kind == Kind::File {
            names.push(String::from_utf8(head.name).unwrap());
        }
    }
    assert_eq!(names, all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    Ok(all)
}

/// A file of 3000 bytes: `aaaa` at 0, `bb` at 1024, nothing from then on.
fn holed() -> Vec<u8> {
    let mut content = vec![0; 3000];
    content[..4].fill(b'a');
    content[1024..1026].fill(b'b');
    content
}

#[test]
fn sparse_files_of_all_forms_have_the_bytes_of_the_file() {
    let octal = |field: &mut [u8], value: u64| {
        let text = format!("{value:0width$o}", width = field.len() - 1);
        field[..text.len()].copy_from_slice(text.as_bytes());
    };
    let old = |pieces: &[(u64, u64)], extended: bool| {
        let pieces = pieces.to_vec();
        move |header: &mut [u8; 512]| {
            header[257..265].copy_from_slice(b"ustar  \0");
            for (number, (at, count)) in pieces.iter().enumerate() {
                let place = 386 + 24 * number;
                octal(&mut header[place..place + 12], *at);
                octal(&mut header[place + 12..place + 24], *count);
            }
            header[482] = u8::from(extended);
            octal(&mut header[483..495], 3000);
        }
    };
    let map = "0,4,1024,2,3000,0";
    let stored = b"aaaabb";
    let sparse_1 = [&b"3\n0\n4\n1024\n2\n3000\n0\n"[..], &[0; 492], stored].concat();
    assert_eq!(sparse_1.len(), 512 + 6);
    let size = ("GNU.sparse.size", "3000");
    let real = ("GNU.sparse.realsize", "3000");
    let name = ("GNU.sparse.name", "cat/0.jpg");
    let forms: [(&str, Vec<Vec<u8>>); 5] = [
        (
            "old",
            vec![block("cat/0.jpg", b'S', stored, old(&[(0, 4), (1024, 2), (3000, 0)], false))],
        ),
        ("old, extended", {
            let head = block("cat/0.jpg", b'S', stored, old(&[(0, 4)], true));
            let mut more = vec![0; 512];
            octal(&mut more[0..12], 1024);
            octal(&mut more[12..24], 2);
            octal(&mut more[24..36], 3000);
            octal(&mut more[36..48], 0);
            vec![head[..512].to_vec(), more, head[512..].to_vec()]
        }),
        (
            "0.0",
            vec![
                pax(&[
                    size,
                    ("GNU.sparse.numblocks", "3"),
                    ("GNU.sparse.offset", "0"),
                    ("GNU.sparse.numbytes", "4"),
                    ("GNU.sparse.offset", "1024"),
                    ("GNU.sparse.numbytes", "2"),
                    ("GNU.sparse.offset", "3000"),
                    ("GNU.sparse.numbytes", "0"),
                ]),
                plain("cat/0.jpg", stored),
            ],
        ),
        (
            "0.1",
            vec![
                pax(&[size, ("GNU.sparse.numblocks", "3"), ("GNU.sparse.map", map), name]),
                plain("GNUSparseFile.7/0.jpg", stored),
            ],
        ),
        (
            "1.0",
            vec![
                pax(&[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), name, real]),
                plain("GNUSparseFile.7/0.jpg", &sparse_1),
            ],
        ),
    ];
    for (form, members) in forms {
        let all = ended(&[members.concat(), plain("dog/1.jpg", b"dog")]);
        let files = read(&all).unwrap_or_else(|error| panic!("{form}: {error}"));
        let expected = [("cat/0.jpg".to_owned(), holed()), ("dog/1.jpg".into(), b"dog".into())];
        assert!(files == expected, "{form}: {:?}", files[0].1.len());
    }
    for wrong in ["0,4,2,2", "0,4,1024", "0,4,1024,9", "0,4,1024,x", "0,4,5000,2"] {
        let map = pax(&[size, ("GNU.sparse.map", wrong), name]);
        let error = read(&ended(&[map, plain("x", stored)])).unwrap_err();
        assert!(error.contains("map of the sparse file cat/0.jpg"), "{wrong}: {error}");
    }
    let unknown = pax(&[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0"), name]);
    let error = read(&ended(&[unknown, plain("x", stored)])).unwrap_err();
    assert!(error.contains("of the form 2.0"), "{error}");
}

#[test]
fn labels_long_names_and_links_are_as_gnu_tar_has_them() {
    let long = "d/".repeat(150) + "x.jpg";
    let members = [
        block("A LABEL", b'V', b"", |header| header[124..136].fill(0)),
        block("././@LongLink", b'L', format!("{long}\0").as_bytes(), |_| {}),
        plain("cut", b"1"),
        pax(&[("path", "caf\u{e9}/2.jpg"), ("size", "1")]),
        plain("caf", b"2"),
        block("hard", b'1', b"", |header| header[124..136].copy_from_slice(b"00000001000\0")),
        plain("folder/", b""),
        block("dir", b'5', b"", |_| {}),
        plain("last", b"3"),
    ];
    let files = read(&ended(&members)).unwrap();
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, [long.as_str(), "caf\u{e9}/2.jpg", "last"]);
    let volume = read(&ended(&[block("x", b'M', b"rest", |_| {})])).unwrap_err();
    assert!(volume.contains("further volume"), "{volume}");
    let star = pax(&[("SCHILY.realsize", "3000")]);
    assert!(read(&ended(&[star, plain("x", b"1")])).unwrap_err().contains("star"));
}

#[test]
fn damage_is_told_by_its_place() {
    let mut bytes = ended(&[plain("a", b"1"), plain("b", b"2")]);
    bytes[1024] = b'x';
    assert!(read(&bytes).unwrap_err().contains("no header at byte 1024"));
    assert!(read(b"no tar at all").unwrap_err().contains("NoTar"));
    let sized = block("a", b'0', b"", |header| header[124..136].fill(0xff));
    assert!(read(&ended(&[sized])).is_err());
    let long = block("a", b'L', b"", |header| {
        header[124..136].copy_from_slice(b"77777777777\0");
    });
    assert!(read(&ended(&[long])).unwrap_err().contains("damaged"));
}

/// Counts the members of archives that follow one another: one member each, then that many zeros.
fn members_with(zeros: &[u64]) -> Result<usize, String> {
    let mut reader: Box<dyn Read> = Box::new(io::empty());
    for &count in zeros {
        let archive = io::Cursor::new(plain("a", b"1"));
        reader = Box::new(reader.chain(archive).chain(io::repeat(0).take(count)));
    }
    let mut tape = Tape::new(Forward(BufReader::new(reader)));
    let mut members = 0;
    while tape.next().map_err(|fault| format!("{fault:?}"))?.is_some() {
        members += 1;
    }
    Ok(members)
}

#[test]
fn zeros_behind_end_marks_are_read_up_to_a_bound() {
    // What fills a record, behind however many archives, counts for nothing.
    assert_eq!(members_with(&[USUAL_PADDING; 80]), Ok(80));
    assert_eq!(members_with(&[USUAL_PADDING + MAX_PADDING]), Ok(1));
    for over in [&[u64::MAX / 2][..], &[USUAL_PADDING + MAX_PADDING / 2 + BLOCK; 2]] {
        let fault = members_with(over).unwrap_err();
        assert!(fault.contains("64 MiB of zeros behind its end mark, at byte "), "{fault}");
        assert!(fault.contains("truncate -s "), "{fault}");
    }
}

#[test]
fn an_archive_of_zeros_alone_is_not_read_to_its_end() {
    let mut tape = Tape::new(Forward(io::repeat(0)));
    assert!(tape.next().unwrap().is_none() && tape.is_blank());
    assert!(tape.at < 2 * MAX_EMPTY);
}
