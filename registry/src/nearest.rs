//! What a name that is not there may have meant.

/// So many names are suggested at most.
const MOST: usize = 3;

/// The candidates that are like a word, the nearest first: a third of its letters may differ, or it is a part
/// of them.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let letters = word.chars().count();
    let most = (letters / 3).max(1);
    let is_part = |candidate: &str| letters >= 3 && candidate.contains(word);
    let mut near: Vec<(usize, &str)> = candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= most || is_part(candidate))
        .collect();
    near.sort();
    near.dedup();
    near.truncate(MOST);
    near.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Behind the name in a message: ``; did you mean `a` or `b`?``, or nothing.
pub fn meant<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let near: Vec<String> =
        nearest(word, candidates).iter().map(|name| format!("`{name}`")).collect();
    match near.is_empty() {
        true => String::new(),
        false => format!("; did you mean {}?", near.join(" or ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_little_or_go_on_are_suggested_the_nearest_first() {
        let names = ["demo", "demo-2", "colors", "dome", "validation/loss", "loss"];
        assert_eq!(nearest("dmo", names), ["demo"]);
        assert_eq!(nearest("demo-1", names), ["demo-2", "demo"]);
        assert_eq!(nearest("los", names), ["loss", "validation/loss"]);
        assert_eq!(nearest("x", names), Vec::<&str>::new());
        assert_eq!(meant("dmo", names), "; did you mean `demo`?");
        assert_eq!(meant("los", names), "; did you mean `loss` or `validation/loss`?");
        assert_eq!(meant("unlike", names), "");
    }
}
