//! What a pickle says, as the machine leaves it: values, and the tables of what they contain.
//!
//! What always holds: values are small and `Copy`, whatever contains others lies in a table and is
//! meant by its index. So sharing by the memo, however often doubled, costs nothing, lists may
//! contain themselves, and neither reading nor dropping recurses.

use super::{PthKind, shown};

/// A value of the machine; indices are those of [`Pickle`]'s tables.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// A whole number beyond 64 bits: little endian, two's complement.
    Long(&'a [u8]),
    Text(&'a str),
    /// Data that no one asks for: floats, bytes, sets.
    Other,
    Tuple(usize),
    List(usize),
    Dict(usize),
    Global(usize),
    Storage(usize),
    Tensor(usize),
    /// What a call of this global would have made.
    Opaque(usize),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Global<'a> {
    pub module: &'a str,
    pub name: &'a str,
}

#[derive(Debug, Default)]
pub(super) struct Dict<'a> {
    /// In the order they were set; of equal keys the last counts.
    pub entries: Vec<(Value<'a>, Value<'a>)>,
    /// Whether a tensor was ever set, readable or not.
    pub holds_tensors: bool,
}

/// What one number of a storage or tensor is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub name: &'a str,
    /// Nothing where the kind cannot be read.
    pub kind: Option<PthKind>,
    pub bytes: usize,
}

/// Part of the numbers of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    pub key: &'a str,
    pub element: Element<'a>,
    /// Elements under this key.
    pub count: u64,
    /// The elements that are meant, all but in very old files.
    pub start: u64,
    pub length: u64,
}

/// A tensor as a view of a storage; nothing in it has been checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub storage: usize,
    pub element: Element<'a>,
    pub offset: i64,
    pub size: Value<'a>,
    pub stride: Value<'a>,
    /// Conjugated or negated without its numbers having been changed.
    pub lazy: bool,
}

/// What a pickle says.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub top: Value<'a>,
    /// Bytes that it took.
    pub length: usize,
    pub storages: Vec<Storage<'a>>,
    pub tensors: Vec<View<'a>>,
    pub items: Vec<Vec<Value<'a>>>,
    pub dicts: Vec<Dict<'a>>,
    pub globals: Vec<Global<'a>>,
}

impl<'a> Pickle<'a> {
    /// The items of a tuple or list.
    pub(super) fn items(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match value {
            Value::Tuple(index) | Value::List(index) => self.items.get(index).map(Vec::as_slice),
            _ => None,
        }
    }

    /// A dictionary; `index` is out of a [`Value::Dict`] of this pickle.
    pub(super) fn dict(&self, index: usize) -> &Dict<'a> {
        &self.dicts[index]
    }

    /// The name of a global; `index` is out of a [`Value::Global`] or [`Value::Opaque`].
    pub(super) fn global(&self, index: usize) -> String {
        self.globals[index].shown()
    }

    /// Whether a value is a tensor, or would be one if this reader knew how.
    pub(super) fn is_tensor(&self, value: Value<'a>) -> bool {
        match value {
            Value::Tensor(_) => true,
            Value::Opaque(index) => self.globals[index].makes_tensors(),
            _ => false,
        }
    }
}

impl Global<'_> {
    pub(super) fn shown(&self) -> String {
        format!("{}.{}", shown(self.module), shown(self.name))
    }

    fn makes_tensors(&self) -> bool {
        (self.module == "torch" || self.module.starts_with("torch."))
            && (self.name.starts_with("_rebuild")
                || self.name.ends_with("Tensor")
                || self.name.ends_with("Parameter")
                || self.name.ends_with("Buffer"))
    }
}
