//! What is told from the name of a file. Names are paths below a source with `/` between their parts;
//! [`clean`] has taken `.`, `..` and empty parts away.

/// A name as it is written in an archive, without parts that name no file or climb out.
pub(super) fn clean(name: &str) -> String {
    let parts: Vec<_> = name.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect();
    parts.join("/")
}

/// A name as text: bytes that are not UTF-8 become `\\xE9` and so on, and a backslash that such a
/// sequence begins with already becomes `\\x5C`, so that different names stay different.
pub(in crate::ingest) fn escaped(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        let valid = chunk.valid();
        for (at, letter) in valid.char_indices() {
            match letter {
                '\\' if is_escape(&valid[at..]) => text.push_str("\\x5C"),
                letter => text.push(letter),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02X}"));
        }
    }
    text
}

/// True for what begins as an escaped byte does.
fn is_escape(text: &str) -> bool {
    let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'A'..=b'F');
    matches!(text.as_bytes(), [b'\\', b'x', a, b, ..] if digit(a) && digit(b))
}

/// True where every backslash of a name begins an escaped byte, `\\xE9`, as programs write what is not UTF-8: none
/// of them separates folders.
pub(super) fn is_escaped(name: &str) -> bool {
    name.split('\\').skip(1).all(|rest| {
        let digit = |byte: &u8| byte.is_ascii_hexdigit();
        matches!(rest.as_bytes(), [b'x', a, b, ..] if digit(a) && digit(b))
    })
}

/// A name below a folder; below the source itself where that is empty.
pub(super) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// The last part.
pub(super) fn file_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The folder; empty where there is none.
pub(super) fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The name of a tar archive without its ending; none for other names.
pub(super) fn tar_stem(name: &str) -> Option<&str> {
    [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"]
        .iter()
        .find_map(|ending| name.strip_suffix(ending))
}

/// Endings of files that may be images; what they are is told by their bytes later.
const IMAGES: [&str; 22] = [
    "jpg", "jpeg", "jpe", "jfif", "jif", "pjpeg", "pjp", "png", "apng", "webp", "bmp", "dib",
    "gif", "tif", "tiff", "avif", "heic", "heif", "jp2", "jxl", "ppm", "pgm",
];

/// True for names of files that may be images; what they are is told by their bytes later. What
/// follows the letters of an ending is as downloads have it: `x.jpg_large`, `x.jpg?w=100`.
pub(super) fn is_image(name: &str) -> bool {
    if is_hidden(name) {
        return false;
    }
    let Some((stem, ending)) = file_name(name).rsplit_once('.') else { return false };
    let letters = ending.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(ending.len());
    let known = |ending: &str| IMAGES.iter().any(|known| known.eq_ignore_ascii_case(ending));
    known(&ending[..letters])
        // A dot in what follows: `x.jpg?v=1.2`.
        || stem.split_once('?').is_some_and(|(stem, _)| is_image(stem))
}

/// Why a file is passed over, by its name.
pub(super) fn passed_over(name: &str) -> String {
    match file_name(name).rsplit_once('.') {
        _ if is_image(name) => "passed over: its name is none of this layout's images".into(),
        Some((stem, ending)) if !stem.is_empty() => {
            format!("passed over: the ending .{ending} is none of an image")
        }
        _ => "passed over: it has no ending of an image".into(),
    }
}

/// True where the file's name ends in a dot and one of these endings, in any case.
pub(super) fn has_ending(name: &str, endings: &[&str]) -> bool {
    let Some((_, ending)) = file_name(name).rsplit_once('.') else { return false };
    endings.iter().any(|known| known.eq_ignore_ascii_case(ending))
}

/// Leftovers of file managers and the like (`._x.jpg`, `.thumbnails/x.jpg`).
pub(super) fn is_hidden(name: &str) -> bool {
    name.split('/').any(|part| part.starts_with('.'))
}

/// The number in names such as `ILSVRC2012_val_00000293.JPEG`: eight digits between `prefix` and the
/// ending.
pub(super) fn number_after(prefix: &str, name: &str) -> Option<usize> {
    let digits = file_name(name).strip_prefix(prefix)?.split_once('.')?.0;
    let is_number = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok())?
}

/// True for identifiers of WordNet such as `n01440764`.
pub(super) fn is_synset(name: &str) -> bool {
    let digits = name.strip_prefix('n').unwrap_or_default();
    digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        assert_eq!(clean("./a//b/../c.jpg"), "a/b/c.jpg");
        assert_eq!(clean("/../../etc/x.png"), "etc/x.png");
        assert_eq!((parent("a/b/c.jpg"), file_name("a/b/c.jpg")), ("a/b", "c.jpg"));
        assert_eq!((parent("c.jpg"), file_name("c.jpg")), ("", "c.jpg"));
        assert_eq!(tar_stem("x/00001.tar.gz"), Some("x/00001"));
        assert!(is_image("a/b.JPEG") && !is_image("a/._b.jpg") && !is_image(".cache/b.jpg"));
        assert!(!is_image("jpg") && !is_image("a.jpg/notes"));
        assert_eq!(number_after("ILSVRC2012_val_", "x/ILSVRC2012_val_00000293.JPEG"), Some(293));
        assert_eq!(number_after("ILSVRC2012_val_", "ILSVRC2012_val_+0000293.JPEG"), None);
        assert!(is_synset("n01440764") && !is_synset("n1440764") && !is_synset("n0144076x"));
    }

    #[test]
    fn bytes_are_escaped_and_names_stay_different() {
        assert_eq!(escaped("café/é.jpg".as_bytes()), "café/é.jpg");
        let names: [&[u8]; 7] = [
            b"caf\xe9",
            b"caf\xe8",
            b"caf\\xE9",
            b"caf\\x5CxE9",
            b"caf\\\xe9",
            b"caf\\xe9",
            b"caf\\x\xe9",
        ];
        let texts: Vec<_> = names.iter().map(|name| escaped(name)).collect();
        assert_eq!(texts[..3], ["caf\\xE9", "caf\\xE8", "caf\\x5CxE9"]);
        let different: std::collections::HashSet<_> = texts.iter().collect();
        assert_eq!(different.len(), names.len(), "{texts:?}");
    }

    #[test]
    fn endings_of_downloads_are_those_of_images() {
        for name in ["a.jfif", "a.JPE", "a.pjpeg", "a.jpg_large", "a.jpg?w=100", "a.png:orig"] {
            assert!(is_image(name), "{name}");
        }
        assert!(is_image("a.jpg?v=1.2"));
        for name in ["a.txt", "a.jpgs", "jpg", "a.", "a.jpg/b", "a._jpg"] {
            assert!(!is_image(name), "{name}");
        }
        assert_eq!(passed_over("a/b.xml"), "passed over: the ending .xml is none of an image");
        assert_eq!(passed_over("a/README"), "passed over: it has no ending of an image");
    }
}
