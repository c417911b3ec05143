//! Maps of sparse files: which pieces of a file are stored, in the four forms of GNU tar.

use super::{BLOCK, Fault, Head, MAX_PIECES, Records, Skip, Tape, number, value};
use crate::ingest::layout::names;

impl<R: Skip> Tape<R> {
    /// Where the bytes of a sparse file are, in the four ways in which GNU tar says it.
    pub(super) fn sparse(
        &mut self,
        header: &tar::Header,
        records: &Records,
        head: &mut Head,
    ) -> Result<(), Fault> {
        let name = names::escaped(&head.name);
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
}
