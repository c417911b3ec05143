//! Which of a file's tensors are the network's. A training script may keep a network several times (the
//! weights and their EMA), in dictionaries within dictionaries, beside an optimizer and counters, and
//! every wrapper around it (`module.` of DataParallel, `_orig_mod.` of torch.compile, `model.` of
//! Lightning) puts a name of its own before those of the tensors.
//!
//! Names come with the keys of all dictionaries before them, joined by `.`. What stands before the
//! network's own names is a copy's prefix, whatever it is made of; a file is searched for all of them.
use super::Format;
use std::collections::BTreeSet;

/// What wrappers put between the names of modules, where they wrap parts of a network.
const WRAPPERS: [&str; 3] = ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."];

/// The first parts of a network's own names.
const ROOTS: [&str; 7] = [
    "time_embed",
    "cond_embed",
    "label_emb",
    "input_blocks",
    "middle_block",
    "output_blocks",
    "out",
];

const INPUT: &str = "input_blocks.0.0.weight";

/// The tensors of one copy of the network.
#[derive(Debug)]
pub(super) struct Copy {
    /// For each name of the file the network's own, or none for what does not belong to the copy.
    pub names: Vec<Option<String>>,
    /// What was decided, a line each.
    pub notes: Vec<String>,
}

/// Finds the network among the names of a file; none where it is not there. Of several copies the one
/// called `wanted` is taken, or else the EMA.
pub(super) fn find(
    names: &[&str],
    format: Format,
    wanted: Option<&str>,
) -> Result<Option<Copy>, String> {
    let plain: Vec<String> = names.iter().map(|name| without_wrappers(name)).collect();
    let embedding = match format {
        Format::Adm => "time_embed.0.weight",
        Format::Janspiry => "cond_embed.0.weight",
    };
    let all: BTreeSet<&str> = plain.iter().map(String::as_str).collect();
    let prefixes: Vec<&str> = plain
        .iter()
        .filter_map(|name| name.strip_suffix(embedding))
        .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
        .filter(|prefix| all.contains(format!("{prefix}{INPUT}").as_str()))
        .collect();
    let Some(prefix) = choose(&prefixes, wanted)? else { return Ok(None) };

    let mut own = BTreeSet::new();
    let mut left_out = Vec::new();
    let mut found = Vec::with_capacity(names.len());
    for (name, given) in plain.iter().zip(names) {
        let inside = name.strip_prefix(prefix).filter(|rest| is_own(rest));
        match inside {
            Some(rest) if !own.insert(rest) => {
                return Err(format!("two tensors are called `{rest}`, the second is `{given}`"));
            }
            Some(rest) => found.push(Some(rest.to_owned())),
            None => {
                let of_another =
                    prefixes.iter().any(|other| !other.is_empty() && name.starts_with(other));
                if !of_another {
                    left_out.push(*given);
                }
                found.push(None);
            }
        }
    }
    Ok(Some(Copy { names: found, notes: notes(prefix, &prefixes, &left_out) }))
}

fn without_wrappers(name: &str) -> String {
    WRAPPERS.iter().fold(name.to_owned(), |name, wrapper| match name.contains(wrapper) {
        true => name
            .split('.')
            .filter(|part| format!("{part}.") != *wrapper)
            .collect::<Vec<_>>()
            .join("."),
        false => name,
    })
}

fn is_own(name: &str) -> bool {
    let root = name.split('.').next().unwrap_or_default();
    ROOTS.contains(&root)
}

/// The prefix of the copy that is meant; `None` where the names have no prefix and no copy is asked for.
fn choose<'p>(prefixes: &[&'p str], wanted: Option<&str>) -> Result<Option<&'p str>, String> {
    let meant = match wanted {
        Some(name) => named(prefixes, name),
        None => prefixes.to_vec(),
    };
    // The one that is called an EMA most clearly: `ema.ema_model` rather than `ema.online_model`.
    let most = meant.iter().map(|prefix| averages(prefix)).max().unwrap_or(0);
    let first: Vec<&'p str> =
        meant.iter().copied().filter(|prefix| averages(prefix) == most).collect();
    match (first[..].first(), first.len(), wanted) {
        (Some(&prefix), 1, _) => Ok(Some(prefix)),
        (None, _, None) => Ok(None),
        (None, _, Some(name)) if prefixes.is_empty() => {
            Err(format!("has no such network in a state dict `{name}`, nor in any other"))
        }
        (None, _, Some(name)) => Err(format!(
            "has no such network in a state dict `{name}`; those it has are {}",
            listed(prefixes)
        )),
        _ => Err(format!(
            "has several such networks, in {}: choose one by --state-dict NAME",
            listed(&meant)
        )),
    }
}

/// The prefixes that a name means: the one of exactly this name, or else those that begin with it, or else
/// those with it anywhere between their dots.
fn named<'p>(prefixes: &[&'p str], name: &str) -> Vec<&'p str> {
    let (begin, inside) = (format!("{name}."), format!(".{name}."));
    let of = |is: &dyn Fn(&str) -> bool| -> Vec<&'p str> {
        prefixes.iter().copied().filter(|prefix| is(prefix)).collect()
    };
    [of(&|prefix| label(prefix) == name), of(&|prefix| prefix.starts_with(&begin))]
        .into_iter()
        .find(|meant| !meant.is_empty())
        .unwrap_or_else(|| of(&|prefix| prefix.contains(&inside)))
}

/// How many words of a prefix say that it is a moving average.
fn averages(prefix: &str) -> usize {
    let word = |word: &str| {
        let word = word.to_ascii_lowercase();
        word == "ema" || word.starts_with("average") || word == "avg" || word == "shadow"
    };
    prefix.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| word(part)).count()
}

/// A prefix as `--state-dict` takes it; `.` for names without one.
fn label(prefix: &str) -> &str {
    prefix.strip_suffix('.').unwrap_or(".")
}

fn listed(prefixes: &[&str]) -> String {
    shortened(prefixes.iter().map(|prefix| label(prefix)), prefixes.len())
}

/// The first few of names, in backquotes.
fn shortened<'n>(names: impl Iterator<Item = &'n str>, count: usize) -> String {
    const MOST: usize = 6;
    let mut names: Vec<String> =
        names.take(MOST).map(|name| format!("`{}`", shown(name))).collect();
    if count > MOST {
        names.push("…".to_owned());
    }
    names.join(", ")
}

/// A name out of a file, short and free of control characters.
fn shown(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_debug).collect()
}

fn notes(prefix: &str, all: &[&str], left_out: &[&str]) -> Vec<String> {
    let mut notes = Vec::new();
    let others: Vec<&str> = all.iter().copied().filter(|other| *other != prefix).collect();
    if !others.is_empty() {
        notes.push(format!(
            "{} was taken, `{}`; the file also has {} (--state-dict NAME)",
            if averages(prefix) > 0 { "the EMA" } else { "one network" },
            shown(label(prefix)),
            listed(&others)
        ));
    } else if !prefix.is_empty() && prefix != "denoise_fn." {
        notes.push(format!("the tensors are those in `{}`", shown(label(prefix))));
    }
    if !left_out.is_empty() {
        notes.push(format!(
            "{} that are not the network's were left out: {}",
            match left_out.len() {
                1 => "one tensor".to_owned(),
                count => format!("{count} tensors"),
            },
            shortened(left_out.iter().copied(), left_out.len())
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [&str; 3] = ["time_embed.0.weight", INPUT, "out.2.bias"];

    fn names(prefixes: &[&str], more: &[&str]) -> Vec<String> {
        let copies = prefixes.iter().flat_map(|prefix| OWN.map(|name| format!("{prefix}{name}")));
        copies.chain(more.iter().map(|name| (*name).to_owned())).collect()
    }

    fn found(names: &[String], wanted: Option<&str>) -> Result<Option<Copy>, String> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        find(&names, Format::Adm, wanted)
    }

    /// The places of the names that were taken, all of which are the network's own.
    fn taken(names: &[String], wanted: Option<&str>) -> Vec<usize> {
        let copy = found(names, wanted).unwrap().unwrap();
        let taken = copy.names.iter().enumerate().filter(|(_, name)| name.is_some());
        let taken: Vec<usize> = taken.map(|(place, _)| place).collect();
        assert!(copy.names.iter().flatten().eq(OWN.iter()), "{copy:?}");
        taken
    }

    #[test]
    fn any_prefix_and_several_one_after_the_other_are_taken_off() {
        for prefix in [
            "",
            "module.",
            "_orig_mod.",
            "model.",
            "diffusion_model.",
            "model.diffusion_model.",
            "module._orig_mod.model.",
            "state_dict.module.",
            "checkpoint.state_dict.model._orig_mod.",
        ] {
            let names = names(&[prefix], &["step", "optimizer.lr"]);
            assert_eq!(taken(&names, None), [0, 1, 2], "{prefix}");
            let notes = found(&names, None).unwrap().unwrap().notes.join("; ");
            assert!(notes.contains("2 tensors") && notes.contains("`optimizer.lr`"), "{notes}");
        }
        // Parts that were compiled or wrapped for themselves.
        let parts = ["time_embed._orig_mod.0.weight", "_orig_mod.input_blocks.0.0.weight"];
        let copy = find(&parts, Format::Adm, None).unwrap().unwrap();
        assert_eq!(copy.names[0].as_deref(), Some(OWN[0]));
        let twice = [&parts[..], &["input_blocks.0.0.weight"]].concat();
        assert!(find(&twice, Format::Adm, None).unwrap_err().contains("two tensors"));
    }

    #[test]
    fn the_ema_is_taken_unless_another_is_named() {
        let two = names(&["model.", "ema."], &[]);
        assert_eq!(taken(&two, None), [3, 4, 5]);
        let notes = found(&two, None).unwrap().unwrap().notes.join("; ");
        assert!(notes.contains("`ema`") && notes.contains("`model`"), "{notes}");
        assert_eq!(taken(&two, Some("model")), [0, 1, 2]);
        assert_eq!(taken(&two, Some("ema")), [3, 4, 5]);
        let deep = names(&["model.", "ema.model."], &[]);
        assert_eq!(taken(&deep, Some("model")), [0, 1, 2], "the exact name comes first");
        let top = names(&["", "ema."], &[]);
        assert_eq!(taken(&top, Some(".")), [0, 1, 2]);
        for pair in [
            ["state_dict.model.", "state_dict.model_ema."],
            ["", "ema."],
            ["net.module.", "netG_EMA.module."],
            ["ema.online_model.", "ema.ema_model."],
            ["state_dict.", "state_dict_ema."],
            ["weights.", "averaged_weights."],
        ] {
            assert_eq!(taken(&names(&pair, &[]), None), [3, 4, 5], "{pair:?}");
        }
        let error = found(&two, Some("other")).unwrap_err();
        assert!(error.contains("`other`") && error.contains("`model`, `ema`"), "{error}");
        let error = found(&names(&["a.", "b."], &[]), None).unwrap_err();
        assert!(error.contains("`a`, `b`") && error.contains("--state-dict"), "{error}");
        // `schema` begins with a known prefix and is not one.
        let error = found(&names(&["schema.", "b."], &[]), None).unwrap_err();
        assert!(error.contains("several"), "{error}");
    }

    #[test]
    fn a_file_without_the_network_has_no_copy() {
        assert!(found(&names(&[], &["weight", "xtime_embed.0.weight"]), None).unwrap().is_none());
        assert!(found(&names(&[], &["weight"]), Some("ema")).is_err());
    }
}
