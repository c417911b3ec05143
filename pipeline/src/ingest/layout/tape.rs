//! The members of a tar archive, in the sense of GNU tar: v7, ustar, GNU and pax headers, long names,
//! sparse files of all four forms, volume labels. Numbers and names of a header are read by the crate
//! `tar`; what that crate does not know (sparse files of pax, what follows an end mark) is here.
//!
//! Always holds: a member is read as what it says it is, or it is an error that names the place. An
//! archive ends in a block of zeros; a further archive behind it is read on, as by `tar
//! --ignore-zeros`, and anything else there is an error, so that no image is lost without a word.

use std::io::{self, BufReader, Read, Seek};

const BLOCK: u64 = 512;
/// Longest name, link or pax header that is read.
const MAX_HEADER: u64 = 4 << 20;
/// Longest archive without members.
const MAX_EMPTY: u64 = 1 << 20;
/// Most pieces of a sparse file.
const MAX_PIECES: usize = 1 << 16;

/// A reader that may pass over bytes without reading them.
pub(super) trait Skip: Read {
    /// Passes over this many bytes; an end that comes before may show at the next reading only.
    fn skip(&mut self, count: u64) -> io::Result<()>;
}

/// A reader from front to end.
pub(super) struct Forward<R>(pub(super) R);

impl<R: Read> Read for Forward<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl<R: Read> Skip for Forward<R> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        io::copy(&mut (&mut self.0).take(count), &mut io::sink()).map(|_| ())
    }
}

/// A file in which places that are not asked for are not read.
pub(super) struct Seeking<R>(pub(super) BufReader<R>);

impl<R: Read> Read for Seeking<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl<R: Read + Seek> Skip for Seeking<R> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let too_far = |_| io::Error::new(io::ErrorKind::InvalidData, "a member is too long");
        self.0.seek_relative(i64::try_from(count).map_err(too_far)?)
    }
}

/// Why an archive cannot be read on.
#[derive(Debug)]
pub(super) enum Fault {
    /// The system or the decompression says so.
    Io(io::Error),
    /// It ends where it should not.
    Early,
    /// The first block is no header: something else than a tar.
    NoTar,
    /// Damage, by the place where it is.
    Damaged(String),
    /// Sound, but not read; says what it is and what to do.
    Unread(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Early,
            _ => Self::Io(error),
        }
    }
}

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    /// A link, hard or symbolic, to this name.
    Link(Vec<u8>),
    /// Something that has no bytes of its own, in a few words.
    Other(String),
}

/// One member; its content is read by [`Tape::content`] before the next is asked for.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    /// Bytes of the file, holes included.
    pub(super) size: u64,
    /// Where the stored bytes of a sparse file are: offset and length of each piece.
    pieces: Option<Vec<(u64, u64)>>,
}

/// An archive that is gone through.
pub(super) struct Tape<R> {
    reader: R,
    /// Bytes read or passed over.
    at: u64,
    /// Stored bytes of the present member that were not read yet, and what fills its last block.
    left: u64,
    padding: u64,
    /// Blocks of zeros were met behind the last member.
    ended: bool,
    archives: u64,
    headers: u64,
    global: Records,
}

/// Keys and values of pax headers, in order; the last of a key counts.
type Records = Vec<(Vec<u8>, Vec<u8>)>;

fn value<'a>(records: &'a Records, key: &str) -> Option<&'a [u8]> {
    let of_key = |(other, _): &&(Vec<u8>, Vec<u8>)| other == key.as_bytes();
    records.iter().rev().find(of_key).map(|(_, value)| value.as_slice())
}

impl<R: Skip> Tape<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            at: 0,
            left: 0,
            padding: 0,
            ended: false,
            archives: 1,
            headers: 0,
            global: Records::new(),
        }
    }

    /// Archives one behind the other that were met so far.
    pub(super) fn archives(&self) -> u64 {
        self.archives
    }

    /// True for an archive of zeros alone that is longer than an empty one would be.
    pub(super) fn is_blank(&self) -> bool {
        self.headers == 0 && self.at > MAX_EMPTY
    }

    /// The next member, or none behind the end mark.
    pub(super) fn next(&mut self) -> Result<Option<Head>, Fault> {
        let (mut name, mut link, mut local) = (None, None, None);
        loop {
            let before = name.is_some() || link.is_some() || local.is_some();
            let Some(header) = self.header()? else {
                let message = "the header of a member that does not follow".into();
                return if before { Err(self.damaged(message)) } else { Ok(None) };
            };
            let kind = header.as_bytes()[156];
            let stored = match kind {
                // Links have no bytes, whatever their size says.
                b'1' => 0,
                // Labels of volumes have no number there.
                _ if header.as_bytes()[124..136].iter().all(|byte| matches!(byte, 0 | b' ')) => 0,
                _ => header.entry_size().map_err(|_| self.damaged("a size".into()))?,
            };
            (self.left, self.padding) = (stored, stored.wrapping_neg() % BLOCK);
            if stored > i64::MAX as u64 {
                return Err(self.damaged("a size".into()));
            }
            match kind {
                b'L' => name = Some(text(self.whole()?)),
                b'K' => link = Some(text(self.whole()?)),
                b'g' => {
                    let more = self.records()?;
                    self.global.extend(more);
                    if self.global.len() > MAX_PIECES {
                        return Err(self.damaged("too many pax headers".into()));
                    }
                }
                b'x' | b'X' => local = Some(self.records()?),
                // The label of a volume; names of an old form, which GNU tar passes over too.
                b'V' | b'N' => {}
                b'M' => {
                    let message = "is a further volume of an archive of several; join the volumes \
                                   (`tar --multi-volume -xf`), and name the folder";
                    return Err(Fault::Unread(message.into()));
                }
                _ => return self.member(&header, kind, name, link, local).map(Some),
            }
        }
    }

    /// The member that a header is of, with what came before it.
    fn member(
        &mut self,
        header: &tar::Header,
        kind: u8,
        name: Option<Vec<u8>>,
        link: Option<Vec<u8>>,
        local: Option<Records>,
    ) -> Result<Head, Fault> {
        let mut records = self.global.clone();
        records.extend(local.unwrap_or_default());
        let path = value(&records, "path").map(<[u8]>::to_vec);
        let name = value(&records, "GNU.sparse.name").map(<[u8]>::to_vec).or(path).or(name);
        let mut name = name.unwrap_or_else(|| header.path_bytes().into_owned());
        if let Some(nul) = name.iter().position(|&byte| byte == 0) {
            name.truncate(nul);
        }
        if let Some(size) = value(&records, "size").filter(|_| kind != b'1') {
            let size = number(size).ok_or_else(|| self.damaged("a size of pax".into()))?;
            (self.left, self.padding) = (size, size.wrapping_neg() % BLOCK);
        }
        if value(&records, "SCHILY.realsize").is_some()
            || value(&records, "SUN.holesdata").is_some()
        {
            let message = format!(
                "its member {} is a sparse file as star writes it, which is not read; pack it \
                 without --sparse",
                super::names::escaped(&name)
            );
            return Err(Fault::Unread(message));
        }
        let to = || {
            let of_pax = value(&records, "linkpath").map(<[u8]>::to_vec);
            let of_header = || header.link_name_bytes().map(|name| name.into_owned());
            of_pax.or(link).or_else(of_header).unwrap_or_default()
        };
        let mut kind = match kind {
            // Digits that are not known are files to GNU tar; letters are headers of vendors.
            b'0' | 0 | b'7' | b'8' | b'9' | b'S' => Kind::File,
            b'1' | b'2' => Kind::Link(to()),
            b'3' | b'4' => Kind::Other("a device".into()),
            b'5' | b'D' => Kind::Folder,
            b'6' => Kind::Other("a pipe".into()),
            other => Kind::Other(format!("of the type `{}` of tar", other.escape_ascii())),
        };
        if kind == Kind::File && name.ends_with(b"/") {
            kind = Kind::Folder;
        }
        let mut head = Head { name, kind, size: self.left, pieces: None };
        if head.kind == Kind::File {
            self.sparse(header, &records, &mut head)?;
        }
        Ok(head)
    }

    /// Where the bytes of a sparse file are, in the four ways in which GNU tar says it.
    fn sparse(
        &mut self,
        header: &tar::Header,
        records: &Records,
        head: &mut Head,
    ) -> Result<(), Fault> {
        let name = super::names::escaped(&head.name);
        let wrong = |what: &str| {
            Fault::Damaged(format!("the map of the sparse file {name} is damaged: {what}"))
        };
        let of_pax = |key: &str| {
            let given = value(records, key);
            given.map(|text| number(text).ok_or_else(|| wrong("a number"))).transpose()
        };
        let (pieces, size) = if header.as_bytes()[156] == b'S' {
            let gnu = header.as_gnu().ok_or_else(|| wrong("no header of GNU tar"))?;
            let size = gnu.real_size().map_err(|_| wrong("its size"))?;
            let mut pieces = Vec::new();
            let mut add = |of: &[tar::GnuSparseHeader]| {
                for piece in of.iter().filter(|piece| !piece.is_empty()) {
                    let (Ok(at), Ok(count)) = (piece.offset(), piece.length()) else {
                        return Err(wrong("a number"));
                    };
                    pieces.push((at, count));
                }
                if pieces.len() > MAX_PIECES { Err(wrong("too many pieces")) } else { Ok(()) }
            };
            add(&gnu.sparse)?;
            let mut more = gnu.is_extended();
            while more {
                let mut block = tar::GnuExtSparseHeader::new();
                self.reader.read_exact(block.as_mut_bytes())?;
                self.at += BLOCK;
                add(block.sparse())?;
                more = block.is_extended();
            }
            (pieces, size)
        } else if let Some(major) = value(records, "GNU.sparse.major") {
            let minor = value(records, "GNU.sparse.minor").unwrap_or_default();
            if (major, minor) != (b"1", b"0") {
                let message = format!(
                    "its sparse file {name} is of the form {}.{}, which is not known; pack it \
                     without --sparse",
                    major.escape_ascii(),
                    minor.escape_ascii()
                );
                return Err(Fault::Unread(message));
            }
            let size = of_pax("GNU.sparse.realsize")?.ok_or_else(|| wrong("no size"))?;
            let start = self.left;
            let count = self.line().ok_or_else(|| wrong("a number"))?;
            let count = usize::try_from(count).ok().filter(|&count| count <= MAX_PIECES);
            let mut pieces = Vec::new();
            for _ in 0..count.ok_or_else(|| wrong("too many pieces"))? {
                let (at, count) = (self.line(), self.line());
                pieces.push(at.zip(count).ok_or_else(|| wrong("a number"))?);
            }
            let rest = (start - self.left).wrapping_neg() % BLOCK;
            if rest > self.left {
                return Err(wrong("it ends early"));
            }
            self.reader.skip(rest)?;
            self.left -= rest;
            self.at += rest;
            (pieces, size)
        } else if let Some(size) = of_pax("GNU.sparse.size")? {
            let mut numbers = Vec::new();
            if let Some(map) = value(records, "GNU.sparse.map") {
                numbers.extend(map.split(|&byte| byte == b',').map(number));
            } else {
                let both =
                    |key: &[u8]| key == b"GNU.sparse.offset" || key == b"GNU.sparse.numbytes";
                let of_map = records.iter().filter(|(key, _)| both(key));
                numbers.extend(of_map.map(|(_, value)| number(value)));
            }
            let numbers: Option<Vec<u64>> = numbers.into_iter().collect();
            let numbers = numbers.filter(|numbers| numbers.len() % 2 == 0);
            let numbers = numbers.ok_or_else(|| wrong("a number"))?;
            (numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect(), size)
        } else {
            return Ok(());
        };
        let mut end = 0;
        let mut stored = 0_u64;
        for &(at, count) in &pieces {
            let until = at.checked_add(count).filter(|&until| at >= end && until <= size);
            end = until.ok_or_else(|| wrong("its pieces overlap or reach beyond its end"))?;
            stored += count;
        }
        if stored != self.left {
            return Err(wrong("its pieces are not as long as what is stored"));
        }
        head.size = size;
        head.pieces = Some(pieces);
        Ok(())
    }

    /// The content of the member that [`Self::next`] gave last.
    pub(super) fn content<'a>(&'a mut self, head: &'a Head) -> Content<'a, R> {
        let whole = [(0, head.size)];
        let pieces = head.pieces.clone().unwrap_or_else(|| whole.to_vec());
        Content { tape: self, pieces, next: 0, at: 0, size: head.size }
    }

    /// The next header; none behind the end mark.
    fn header(&mut self) -> Result<Option<tar::Header>, Fault> {
        let rest = self.left + self.padding;
        self.reader.skip(rest)?;
        self.at += rest;
        (self.left, self.padding) = (0, 0);
        loop {
            let mut header = tar::Header::new_old();
            let count = fill(&mut self.reader, header.as_mut_bytes())?;
            let start = self.at;
            self.at += count as u64;
            if count == 0 {
                return if self.ended { Ok(None) } else { Err(Fault::Early) };
            }
            let block = &header.as_bytes()[..count];
            if block.iter().all(|&byte| byte == 0) {
                self.ended |= block.len() as u64 == BLOCK;
                continue;
            }
            if (count as u64) < BLOCK && !self.ended {
                return Err(if start == 0 { Fault::NoTar } else { Fault::Early });
            }
            let sound = count as u64 == BLOCK && checksum(block);
            return match (sound, self.ended) {
                (true, ended) => {
                    self.archives += u64::from(ended && start > 0);
                    self.ended = false;
                    self.headers += 1;
                    Ok(Some(header))
                }
                (false, _) if start == 0 => Err(Fault::NoTar),
                (false, true) => Err(Fault::Unread(format!(
                    "has bytes behind its end mark, from byte {start} on, that are no further \
                     archive; if they are not needed, cut them off: truncate -s {start} FILE"
                ))),
                (false, false) => Err(Fault::Damaged(format!("no header at byte {start}"))),
            };
        }
    }

    /// The stored bytes of a header that is a text.
    fn whole(&mut self) -> Result<Vec<u8>, Fault> {
        if self.left > MAX_HEADER {
            return Err(self.damaged(format!("a name of {} bytes", self.left)));
        }
        let mut bytes = vec![0; self.left as usize];
        self.reader.read_exact(&mut bytes)?;
        self.at += self.left;
        self.left = 0;
        Ok(bytes)
    }

    /// The records of a pax header: `LENGTH KEY=VALUE\n`.
    fn records(&mut self) -> Result<Records, Fault> {
        let bytes = self.whole()?;
        let mut rest = bytes.as_slice();
        let mut records = Records::new();
        while !rest.is_empty() && rest[0] != 0 {
            let parsed = (|| {
                let space = rest.iter().position(|&byte| byte == b' ')?;
                let length = usize::try_from(number(&rest[..space])?).ok()?;
                let record = rest.get(space + 1..length)?.strip_suffix(b"\n")?;
                let equals = record.iter().position(|&byte| byte == b'=')?;
                let pair = (record[..equals].to_vec(), record[equals + 1..].to_vec());
                Some((pair, rest.get(length..)?))
            })();
            let Some((pair, after)) = parsed else {
                return Err(self.damaged("a pax header".into()));
            };
            records.push(pair);
            rest = after;
        }
        Ok(records)
    }

    /// A number on a line of its own, of the stored bytes.
    fn line(&mut self) -> Option<u64> {
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            if self.left == 0 || line.len() > 20 {
                return None;
            }
            self.reader.read_exact(&mut byte).ok()?;
            self.left -= 1;
            self.at += 1;
            match byte[0] {
                b'\n' => return number(&line),
                byte => line.push(byte),
            }
        }
    }

    fn damaged(&self, what: String) -> Fault {
        Fault::Damaged(format!("{what} before byte {} is damaged", self.at))
    }
}

/// The bytes of a member, its holes filled with zeros. Short where the archive ends early.
pub(super) struct Content<'a, R> {
    tape: &'a mut Tape<R>,
    pieces: Vec<(u64, u64)>,
    next: usize,
    at: u64,
    size: u64,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while let Some(&(start, count)) = self.pieces.get(self.next) {
            if self.at >= start + count {
                self.next += 1;
                continue;
            }
            if self.at < start {
                break;
            }
            let want = (start + count - self.at).min(bytes.len() as u64) as usize;
            let read = self.tape.reader.read(&mut bytes[..want])?;
            self.at += read as u64;
            self.tape.at += read as u64;
            self.tape.left -= read as u64;
            return Ok(read);
        }
        let until = self.pieces.get(self.next).map_or(self.size, |&(start, _)| start);
        let zeros = (until - self.at).min(bytes.len() as u64) as usize;
        bytes[..zeros].fill(0);
        self.at += zeros as u64;
        Ok(zeros)
    }
}

/// A text up to its first zero.
fn text(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Fills a buffer as far as the reader goes.
pub(super) fn fill(reader: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < bytes.len() {
        match reader.read(&mut bytes[count..]) {
            Ok(0) => break,
            Ok(read) => count += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// True for a block whose checksum is that of a header, of signed or unsigned bytes.
pub(super) fn checksum(block: &[u8]) -> bool {
    let Some(field) = block.get(148..156).filter(|_| block.len() as u64 == BLOCK) else {
        return false;
    };
    let digits: Vec<u8> = field.iter().copied().filter(|byte| !matches!(byte, b' ' | 0)).collect();
    let text = std::str::from_utf8(&digits).unwrap_or_default();
    let Ok(expected) = i64::from_str_radix(text, 8) else { return false };
    let (mut signed, mut unsigned) = (0_i64, 0_i64);
    for (place, &byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&place) { b' ' } else { byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte as i8);
    }
    expected == signed || expected == unsigned
}

#[cfg(test)]
mod tests {
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
}
