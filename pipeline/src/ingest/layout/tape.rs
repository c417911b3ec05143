//! The members of a tar archive, in the sense of GNU tar: v7, ustar, GNU and pax headers, long names,
//! sparse files of all four forms, volume labels. Numbers and names of a header are read by the crate
//! `tar`; what that crate does not know (sparse files of pax, what follows an end mark) is here.
//!
//! Always holds: a member is read as what it says it is, or it is an error that names the place. An
//! archive ends in a block of zeros; a further archive behind it is read on, as by `tar
//! --ignore-zeros`, and anything else there is an error, so that no image is lost without a word.

mod sparse;

use std::io::{self, BufReader, Read, Seek};

const BLOCK: u64 = 512;
/// Longest pax header that is read; the map of a sparse file is the longest that there is.
const MAX_HEADER: u64 = 4 << 20;
/// Longest name and link: more than any system has.
const MAX_NAME: u64 = 64 << 10;
/// Bytes of a name that are no matter, and most that all names of an archive have above these: names are kept, and a
/// packed archive of a megabyte may have a gigabyte of them.
const USUAL_NAME: u64 = 256;
const MAX_EXCESS: u64 = 64 << 20;
/// Most bytes of what pax headers say of all members, of keys and values together.
const MAX_GLOBAL: usize = 1 << 20;
/// Longest archive without members.
const MAX_EMPTY: u64 = 1 << 20;
/// Bytes of zeros behind an end mark that are no matter, and most that an archive has above these in all: they fill the
/// last record of a tape, which has 10 KiB, and a packed archive of four megabytes may have four gigabytes of them.
const USUAL_PADDING: u64 = 1 << 20;
pub(super) const MAX_PADDING: u64 = 64 << 20;
/// Most keys of pax headers of all members.
const MAX_RECORDS: usize = 1 << 10;
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
    /// Bytes of the names so far above [`USUAL_NAME`] each.
    excess: u64,
    /// Bytes of zeros so far above [`USUAL_PADDING`] behind each end mark.
    padded: u64,
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
            excess: 0,
            padded: 0,
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
                b'L' => name = Some(text(self.whole(MAX_NAME)?)),
                b'K' => link = Some(text(self.whole(MAX_NAME)?)),
                b'g' => self.for_all()?,
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

    /// Takes what a pax header says of all members from here on, in place of what one said before.
    fn for_all(&mut self) -> Result<(), Fault> {
        for record in self.records()? {
            self.global.retain(|(key, _)| *key != record.0);
            self.global.push(record);
            let bytes: usize = self.global.iter().map(|(key, value)| key.len() + value.len()).sum();
            if bytes > MAX_GLOBAL || self.global.len() > MAX_RECORDS {
                return Err(self.damaged("too long a pax header of all members".into()));
            }
        }
        Ok(())
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
        if name.len() as u64 > MAX_NAME {
            return Err(self.damaged(format!("a name of {} bytes", name.len())));
        }
        self.excess += (name.len() as u64).saturating_sub(USUAL_NAME);
        if self.excess > MAX_EXCESS {
            let most = MAX_EXCESS >> 20;
            return Err(self.damaged(format!("too many long names, of {most} MiB and more in all")));
        }
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

    /// The content of the member that [`Self::next`] gave last.
    pub(super) fn content<'a>(&'a mut self, head: &'a Head) -> Content<'a, R> {
        let whole = [(0, head.size)];
        let pieces = head.pieces.clone().unwrap_or_else(|| whole.to_vec());
        Content { tape: self, pieces, next: 0, at: 0, size: head.size }
    }

    /// The next header; none behind the end mark, nor where there is nothing but zeros.
    fn header(&mut self) -> Result<Option<tar::Header>, Fault> {
        let rest = self.left + self.padding;
        self.reader.skip(rest)?;
        self.at += rest;
        (self.left, self.padding) = (0, 0);
        let from = self.at;
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
                if self.is_blank() {
                    return Ok(None);
                }
                self.padded += if self.at - from > USUAL_PADDING { BLOCK } else { 0 };
                if self.padded > MAX_PADDING {
                    return Err(Fault::Unread(format!(
                        "has more than {} MiB of zeros behind its end mark, at byte {from}, which are not read \
                         on; if nothing follows them, cut them off: truncate -s {} FILE (of a packed archive: \
                         unpack it first)",
                        MAX_PADDING >> 20,
                        from + 2 * BLOCK
                    )));
                }
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
    fn whole(&mut self, most: u64) -> Result<Vec<u8>, Fault> {
        if self.left > most {
            let left = self.left;
            return Err(self.damaged(format!("a header of {left} bytes, at most {most} are read,")));
        }
        let mut bytes = Vec::new();
        let count = (&mut self.reader).take(self.left).read_to_end(&mut bytes)?;
        if count as u64 != self.left {
            return Err(Fault::Early);
        }
        self.at += self.left;
        self.left = 0;
        Ok(bytes)
    }

    /// The records of a pax header: `LENGTH KEY=VALUE\n`.
    fn records(&mut self) -> Result<Records, Fault> {
        let bytes = self.whole(MAX_HEADER)?;
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
mod tests;
