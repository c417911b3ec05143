//! Keys of images as names of files.

use storage::atomic;

/// Longest part of a name, in bytes; file systems take 255.
const LONGEST_PART: usize = 200;
/// Longest name, in bytes; object stores take 1024.
const LONGEST: usize = 800;

/// A key as the name of a file below a folder, without an ending of its own: each key has another. Folders
/// of the key stay folders. What file systems do not take, or take for something else, is written as `%`
/// and two hexadecimal digits a byte: control characters, `% \ : * ? " < > | ~`, a dot at the beginning of a
/// part, an empty part as `%`. A part over 200 bytes, or all that is over 800, is cut and ends in `~` and
/// 32 digits of its SHA-256.
pub fn file_name(key: &str) -> String {
    let parts: Vec<String> = key.split('/').map(part).collect();
    shortened(parts.join("/"), key, LONGEST)
}

fn part(text: &str) -> String {
    if text.is_empty() {
        return "%".into();
    }
    let mut part = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        let escaped = character.is_control()
            || "%\\:*?\"<>|~".contains(character)
            || (at == 0 && character == '.');
        if !escaped {
            part.push(character);
            continue;
        }
        for byte in character.encode_utf8(&mut [0; 4]).bytes() {
            part.push_str(&format!("%{byte:02X}"));
        }
    }
    shortened(part, text, LONGEST_PART)
}

/// A name of this length at most, still another one for each `text`.
fn shortened(name: String, text: &str, longest: usize) -> String {
    if name.len() <= longest {
        return name;
    }
    let digest = &atomic::sha256(text.as_bytes())[..32];
    let kept = name.floor_char_boundary(longest - 33);
    format!("{}~{digest}", name[..kept].trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_files_read_like_their_keys() {
        let named = [
            ("cat/0.jpg", "cat/0.jpg"),
            ("cat-0.jpg", "cat-0.jpg"),
            ("b c.png", "b c.png"),
            ("b(c.png", "b(c.png"),
            ("Zürich/é.JPEG", "Zürich/é.JPEG"),
            ("../x", "%2E./x"),
            ("a//b/", "a/%/b/%"),
            ("a\\b:c\n%", "a%5Cb%3Ac%0A%25"),
            ("", "%"),
        ];
        for (key, name) in named {
            assert_eq!(file_name(key), name, "{key}");
        }
        let long = file_name(&"ü".repeat(300));
        assert!(long.len() <= 200 && long.starts_with("üü") && long.contains('~'), "{long}");
    }

    proptest! {
        #[test]
        fn each_key_has_a_name_of_its_own_that_stays_below_its_folder(
            keys in proptest::collection::hash_set("[ab./%~\\\\\n\u{e9}]{0,6}|[a/]{190,210}|(a{150}/){5,7}[ab]", 1..30),
        ) {
            let names: HashSet<String> = keys.iter().map(|key| file_name(key)).collect();
            prop_assert_eq!(names.len(), keys.len());
            for name in names {
                prop_assert!(name.len() <= LONGEST);
                let parts = std::path::Path::new(&name).components();
                prop_assert!(parts.clone().all(|part| matches!(part, std::path::Component::Normal(_))));
                prop_assert_eq!(parts.count(), name.split('/').count());
                prop_assert!(name.split('/').all(|part| part.len() <= LONGEST_PART));
            }
        }
    }
}
