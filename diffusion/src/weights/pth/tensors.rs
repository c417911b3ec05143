//! From what a pickle says to tensors: which dictionary is the state dict, where the numbers of each
//! tensor lie, and the numbers in their plain order.
//!
//! All tensors are checked before the first number is read: their bytes lie within their storages,
//! the storages have the sizes that the pickle gives them, and everything together stays below the
//! limit. A storage is read once, for all its tensors.

use std::collections::{BTreeMap, BTreeSet};

use super::values::{Pickle, Value, View};
use super::{PthError, PthKind, PthTensor, Result, Storages, Wanted, reserve, shown};

const MOST_TENSORS: usize = 1 << 18;
/// Dictionaries within dictionaries that are looked into.
const DEEPEST: usize = 6;
/// Longest name of a tensor with those of the dictionaries around it, in bytes.
const LONGEST_NAME: usize = 512;
/// Most dictionaries that are looked into.
const MOST_DICTS: usize = 1 << 14;
const MOST_DIMENSIONS: usize = 32;

/// A tensor whose bytes are known to lie within its storage.
struct Layout<'a> {
    name: &'a str,
    kind: PthKind,
    shape: Vec<usize>,
    /// Sides above 1 and their strides in elements, outermost first.
    steps: Vec<(usize, usize)>,
    /// Where the first element begins in the storage, in bytes.
    start: usize,
    bytes: usize,
}

/// Reads the wanted tensors, sorted by name; at most `most` bytes.
pub(super) fn collect(
    pickle: &Pickle<'_>,
    wanted: Wanted<'_, '_>,
    most: u64,
    storages: &mut dyn Storages,
) -> Result<Vec<PthTensor>> {
    let entries = match wanted {
        Wanted::Inside(inside) => entries(pickle, inside)?,
        Wanted::Chosen(choose) => {
            let all = nested(pickle)?;
            let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
            match choose(&names).map_err(PthError::new)? {
                Some(chosen) => all
                    .iter()
                    .zip(chosen)
                    .filter_map(|(&(_, value), name)| Some((name?, value)))
                    .collect(),
                None => entries(pickle, None)?,
            }
        }
    };

    let too_large = || {
        PthError::new(format!(
            "its tensors take more than {most} bytes, far more than the file holds"
        ))
    };
    let mut groups: BTreeMap<&str, Vec<Layout>> = BTreeMap::new();
    let mut count = 0;
    let mut total: u64 = 0;
    for (name, &value) in &entries {
        let view = match value {
            Value::Tensor(index) => pickle.tensors[index],
            Value::Opaque(index) if pickle.is_tensor(value) => {
                return Err(PthError::new(format!(
                    "`{}` is made by `{}`, a kind of tensor that cannot be read: convert it to a \
                     plain one before saving",
                    shown(name),
                    pickle.global(index)
                )));
            }
            _ => continue,
        };
        count += 1;
        if count > MOST_TENSORS {
            return Err(PthError::new(format!("has more than {MOST_TENSORS} tensors")));
        }
        let key = pickle.storages[view.storage].key;
        let layout = layout(pickle, name, &view, &*storages)
            .map_err(|error| PthError::new(format!("tensor `{}` {error}", shown(name))))?;
        total = total.saturating_add(layout.bytes as u64);
        if total > most {
            return Err(too_large());
        }
        groups.entry(key).or_default().push(layout);
    }
    if count == 0 {
        return Err(PthError::new("the state dict holds no tensors"));
    }

    // Only an archive whose entries overlap or are compressed has more to read than its length.
    let mut to_read: u64 = 0;
    for (key, layouts) in &groups {
        if layouts.iter().any(|layout| layout.bytes > 0) {
            to_read = to_read.saturating_add(storages.size(key)?);
        }
    }
    if to_read > most {
        return Err(too_large());
    }
    let mut tensors = Vec::with_capacity(count);
    for (key, layouts) in groups {
        let wanted = layouts.iter().any(|layout| layout.bytes > 0);
        let mut bytes = if wanted { storages.read(key)? } else { Vec::new() };
        let last = layouts.len() - 1;
        for (index, layout) in layouts.into_iter().enumerate() {
            let whole =
                wanted && index == last && layout.bytes == bytes.len() && layout.is_contiguous();
            let data = if whole { std::mem::take(&mut bytes) } else { layout.gather(&bytes)? };
            if layout.kind == PthKind::Bool && data.iter().any(|&byte| byte > 1) {
                return Err(PthError::new(format!(
                    "tensor `{}` is of truth values but holds others: the file is damaged",
                    shown(layout.name)
                )));
            }
            let Layout { name, kind, shape, .. } = layout;
            tensors.push(PthTensor { name: name.to_owned(), shape, kind, data });
        }
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tensors)
}

/// The entries of the state dict by name.
fn entries<'a>(pickle: &Pickle<'a>, inside: Option<&str>) -> Result<BTreeMap<String, Value<'a>>> {
    let mut entries = BTreeMap::new();
    for &(key, value) in &pickle.dict(state_dict(pickle, inside)?).entries {
        match key {
            Value::Text(name) => {
                entries.insert(name.to_owned(), value);
            }
            _ if pickle.is_tensor(value) => {
                return Err(PthError::new("a tensor has a key that is no text"));
            }
            _ => {}
        }
    }
    Ok(entries)
}

/// All tensors in the dictionary and in those within it, by their keys joined by `.`, sorted. A
/// dictionary that several name is taken once, where it is least deep.
fn nested<'a>(pickle: &Pickle<'a>) -> Result<Vec<(String, Value<'a>)>> {
    let Value::Dict(top) = pickle.top else { return Ok(Vec::new()) };
    let mut found = BTreeMap::new();
    let mut seen = BTreeSet::from([top]);
    let mut level = vec![(String::new(), top)];
    for _ in 0..DEEPEST {
        let mut below = Vec::new();
        for (prefix, dict) in level {
            for &(key, value) in &pickle.dict(dict).entries {
                let Value::Text(key) = key else { continue };
                if prefix.len() + key.len() >= LONGEST_NAME {
                    continue;
                }
                match value {
                    Value::Dict(index) if seen.len() < MOST_DICTS && seen.insert(index) => {
                        below.push((format!("{prefix}{key}."), index));
                    }
                    value if pickle.is_tensor(value) => {
                        found.insert(format!("{prefix}{key}"), value);
                    }
                    _ => {}
                }
                if found.len() > MOST_TENSORS {
                    return Err(PthError::new(format!("has more than {MOST_TENSORS} tensors")));
                }
            }
        }
        level = below;
    }
    Ok(found.into_iter().collect())
}

/// The dictionary that is meant, an index of the pickle.
fn state_dict(pickle: &Pickle<'_>, inside: Option<&str>) -> Result<usize> {
    let Value::Dict(top) = pickle.top else {
        return Err(PthError::new(match pickle.top {
            Value::Opaque(index) | Value::Global(index) => asks_to_run(pickle, index),
            Value::Tensor(_) => "holds a single tensor, not a state dict".to_owned(),
            _ => "holds no state dict: its object is no dictionary".to_owned(),
        }));
    };
    let entries: BTreeMap<&str, Value> = (pickle.dict(top).entries.iter())
        .filter_map(|&(key, value)| match key {
            Value::Text(name) => Some((name, value)),
            _ => None,
        })
        .collect();
    let inner: BTreeMap<&str, usize> = (entries.iter())
        .filter_map(|(&name, &value)| match value {
            Value::Dict(index) if pickle.dict(index).holds_tensors => Some((name, index)),
            _ => None,
        })
        .collect();
    let asking = entries.iter().find_map(|(&name, &value)| match value {
        Value::Opaque(index) if inside.is_none_or(|inside| inside == name) => Some(index),
        _ => None,
    });
    let mut names: Vec<_> = inner.keys().take(9).map(|name| format!("`{}`", shown(name))).collect();
    if names.len() > 8 {
        names[8] = "…".to_owned();
    }
    let names = names.join(", ");
    match inside {
        Some(name) => match (inner.get(name), asking) {
            (Some(&index), _) => Ok(index),
            (None, Some(asking)) => Err(PthError::new(asks_to_run(pickle, asking))),
            (None, None) if names.is_empty() => {
                Err(PthError::new(format!("has no state dict `{}`, nor any other", shown(name))))
            }
            _ => Err(PthError::new(format!(
                "has no state dict `{}`; those it has are {names}",
                shown(name)
            ))),
        },
        None if pickle.dict(top).holds_tensors => Ok(top),
        None => match (inner.len(), inner.first_key_value(), asking) {
            (1, Some((_, &index)), _) => Ok(index),
            (0, _, Some(asking)) => Err(PthError::new(asks_to_run(pickle, asking))),
            (0, _, None) => Err(PthError::new(
                "holds no state dict: no tensors in its dictionary, nor in one of those within",
            )),
            _ => Err(PthError::new(format!("has several state dicts, choose one of {names}"))),
        },
    }
}

fn asks_to_run(pickle: &Pickle<'_>, global: usize) -> String {
    format!(
        "`{}` is called for: this file asks to run code, which is never done; save the state dict \
         alone, torch.save(model.state_dict(), path)",
        pickle.global(global)
    )
}

/// Checks a view against its storage. Errors go on after the name of the tensor.
fn layout<'a>(
    pickle: &Pickle<'_>,
    name: &'a str,
    view: &View<'_>,
    storages: &dyn Storages,
) -> Result<Layout<'a>> {
    let beyond = || PthError::new("reaches beyond its storage: the file is damaged");
    let storage = pickle.storages[view.storage];
    let Some(kind) = view.element.kind else {
        return Err(PthError::new(format!(
            "is of `{}`, which cannot be read: convert it before saving",
            shown(view.element.name)
        )));
    };
    if view.lazy {
        return Err(PthError::new(
            "is conjugated or negated only on paper: call resolve_conj() and resolve_neg() before \
             saving",
        ));
    }
    let shape = dimensions(pickle, view.size)?;
    let strides = dimensions(pickle, view.stride)?;
    if shape.len() != strides.len() {
        return Err(PthError::new("has another number of strides than of dimensions"));
    }
    let width = kind.bytes();
    let empty = shape.contains(&0);
    let count = shape.iter().try_fold(1_usize, |count, &side| count.checked_mul(side));
    let bytes = if empty { Some(0) } else { count.and_then(|count| count.checked_mul(width)) };
    let bytes = bytes.ok_or_else(beyond)?;
    if empty {
        // Wherever it begins, and whether the file has its storage or not.
        return Ok(Layout { name, kind, shape, steps: Vec::new(), start: 0, bytes });
    }
    let steps: Vec<_> = shape.iter().copied().zip(strides).filter(|&(side, _)| side > 1).collect();
    if steps.iter().any(|&(_, stride)| stride == 0) {
        return Err(PthError::new(
            "repeats its numbers (stride 0), which is not supported: call contiguous() before \
             saving",
        ));
    }

    let of_storage = |count: u64| count.checked_mul(storage.element.bytes as u64);
    let size = storages.size(storage.key)?;
    if of_storage(storage.count) != Some(size - size % storage.element.bytes as u64) {
        return Err(PthError::new(format!(
            "lies in storage `{}` of {} elements, for which the file has {size} bytes: it is damaged",
            shown(storage.key),
            storage.count
        )));
    }
    let place = || -> Option<usize> {
        let part = of_storage(storage.start)?;
        let part_end = part.checked_add(of_storage(storage.length)?)?;
        let last = steps.iter().try_fold(0_usize, |last, &(side, stride)| {
            last.checked_add((side - 1).checked_mul(stride)?)
        })?;
        let offset = u64::try_from(view.offset).ok()?.checked_mul(width as u64)?;
        let start = part.checked_add(offset)?;
        let end = (last as u64).checked_add(1)?.checked_mul(width as u64)?.checked_add(start)?;
        (end <= part_end && part_end <= size).then(|| usize::try_from(start).ok())?
    };
    let start = place().ok_or_else(beyond)?;
    Ok(Layout { name, kind, shape, steps, start, bytes })
}

/// A size or strides: a tuple of whole numbers that are not negative.
fn dimensions(pickle: &Pickle<'_>, value: Value<'_>) -> Result<Vec<usize>> {
    let items = pickle.items(value).ok_or_else(|| PthError::new("has a size that is no tuple"))?;
    if items.len() > MOST_DIMENSIONS {
        return Err(PthError::new(format!("has more than {MOST_DIMENSIONS} dimensions")));
    }
    let number = |&item: &Value<'_>| match item {
        Value::Int(number) => usize::try_from(number).ok(),
        _ => None,
    };
    items
        .iter()
        .map(number)
        .collect::<Option<_>>()
        .ok_or_else(|| PthError::new("has a size that is no whole number, or negative"))
}

impl Layout<'_> {
    /// Only asked of tensors that are not empty, whose products fit.
    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.steps.iter().rev().all(|&(side, stride)| {
            let fits = stride == expected;
            expected *= side;
            fits
        })
    }

    /// The numbers in row-major order.
    fn gather(&self, storage: &[u8]) -> Result<Vec<u8>> {
        let from = |at: usize, bytes: usize| {
            storage
                .get(at..)
                .and_then(|rest| rest.get(..bytes))
                .ok_or_else(|| PthError::new("has changed while it was read"))
        };
        let mut data = reserve(self.bytes as u64)?;
        if self.bytes == 0 {
            return Ok(data);
        }
        let Some((&(side, stride), outer)) =
            self.steps.split_last().filter(|_| !self.is_contiguous())
        else {
            data.extend_from_slice(from(self.start, self.bytes)?);
            return Ok(data);
        };
        // Steps through the outer dimensions like an odometer, and along the last in one go. All
        // places lie below the end that was checked, so nothing overflows.
        let width = self.kind.bytes();
        let mut index = vec![0; outer.len()];
        let mut at = self.start;
        loop {
            if stride == 1 {
                data.extend_from_slice(from(at, side * width)?);
            } else {
                for step in 0..side {
                    data.extend_from_slice(from(at + step * stride * width, width)?);
                }
            }
            let mut turned = false;
            for (index, &(side, stride)) in index.iter_mut().zip(outer).rev() {
                *index += 1;
                if *index < side {
                    at += stride * width;
                    turned = true;
                    break;
                }
                at -= (side - 1) * stride * width;
                *index = 0;
            }
            if !turned {
                return Ok(data);
            }
        }
    }
}
