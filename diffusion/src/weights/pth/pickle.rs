//! A pickle machine that knows data only.
//!
//! A pickle is a program: its operations push values onto a stack, put them into tuples, lists and
//! dictionaries, keep them in a memo, name Python objects (`GLOBAL`) and call those (`REDUCE`). Here
//! a name is never looked up. `names.rs` gives a meaning to the few that put tensors together;
//! calling any other makes a [`Value::Opaque`], which remembers the name and does nothing.
//!
//! What always holds: each operation makes at most a few values and there are at most
//! [`MOST_STEPS`], which bounds time and memory.

use std::collections::HashMap;

use super::values::{Dict, Global, Pickle, Value};
use super::{PthError, Result};

/// A tensor takes some 50 steps, so this is enough for 80 000; Adam's state included.
const MOST_STEPS: usize = 1 << 22;

/// Reads one pickle from the beginning of `bytes`.
pub(super) fn load(bytes: &[u8]) -> Result<Pickle<'_>> {
    let pickle = Pickle {
        top: Value::None,
        length: 0,
        storages: Vec::new(),
        tensors: Vec::new(),
        items: Vec::new(),
        dicts: Vec::new(),
        globals: Vec::new(),
    };
    let machine = Machine {
        rest: bytes,
        steps: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        pickle,
    };
    machine.run(bytes.len())
}

/// The operations, by the names of Python's `pickletools`.
mod op {
    pub const MARK: u8 = b'(';
    pub const STOP: u8 = b'.';
    pub const POP: u8 = b'0';
    pub const POP_MARK: u8 = b'1';
    pub const DUP: u8 = b'2';
    pub const BINBYTES: u8 = b'B';
    pub const SHORT_BINBYTES: u8 = b'C';
    pub const FLOAT: u8 = b'F';
    pub const BINFLOAT: u8 = b'G';
    pub const INT: u8 = b'I';
    pub const BININT: u8 = b'J';
    pub const BININT1: u8 = b'K';
    pub const LONG: u8 = b'L';
    pub const BININT2: u8 = b'M';
    pub const NONE: u8 = b'N';
    pub const BINPERSID: u8 = b'Q';
    pub const REDUCE: u8 = b'R';
    pub const BINSTRING: u8 = b'T';
    pub const SHORT_BINSTRING: u8 = b'U';
    pub const BINUNICODE: u8 = b'X';
    pub const EMPTY_LIST: u8 = b']';
    pub const APPEND: u8 = b'a';
    pub const BUILD: u8 = b'b';
    pub const GLOBAL: u8 = b'c';
    pub const DICT: u8 = b'd';
    pub const APPENDS: u8 = b'e';
    pub const BINGET: u8 = b'h';
    pub const LONG_BINGET: u8 = b'j';
    pub const LIST: u8 = b'l';
    pub const BINPUT: u8 = b'q';
    pub const LONG_BINPUT: u8 = b'r';
    pub const SETITEM: u8 = b's';
    pub const TUPLE: u8 = b't';
    pub const SETITEMS: u8 = b'u';
    pub const EMPTY_DICT: u8 = b'}';
    pub const EMPTY_TUPLE: u8 = b')';
    pub const PROTO: u8 = 0x80;
    pub const NEWOBJ: u8 = 0x81;
    pub const TUPLE1: u8 = 0x85;
    pub const TUPLE2: u8 = 0x86;
    pub const TUPLE3: u8 = 0x87;
    pub const NEWTRUE: u8 = 0x88;
    pub const NEWFALSE: u8 = 0x89;
    pub const LONG1: u8 = 0x8a;
    pub const LONG4: u8 = 0x8b;
    pub const SHORT_BINUNICODE: u8 = 0x8c;
    pub const BINUNICODE8: u8 = 0x8d;
    pub const BINBYTES8: u8 = 0x8e;
    pub const EMPTY_SET: u8 = 0x8f;
    pub const ADDITEMS: u8 = 0x90;
    pub const FROZENSET: u8 = 0x91;
    pub const NEWOBJ_EX: u8 = 0x92;
    pub const STACK_GLOBAL: u8 = 0x93;
    pub const MEMOIZE: u8 = 0x94;
    pub const FRAME: u8 = 0x95;
    pub const BYTEARRAY8: u8 = 0x96;
}

pub(super) struct Machine<'a> {
    rest: &'a [u8],
    steps: usize,
    pub stack: Vec<Value<'a>>,
    /// Heights of the stack; values below the last are out of reach.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    pub pickle: Pickle<'a>,
}

impl<'a> Machine<'a> {
    fn run(mut self, length: usize) -> Result<Pickle<'a>> {
        loop {
            self.spend(1)?;
            let operation = self.byte()?;
            if operation == op::STOP {
                self.pickle.top = self.pop()?;
                self.pickle.length = length - self.rest.len();
                return Ok(self.pickle);
            }
            self.step(operation)?;
        }
    }

    fn step(&mut self, operation: u8) -> Result<()> {
        match operation {
            op::PROTO => {
                let protocol = self.byte()?;
                if protocol > 5 {
                    return Err(wrong(format!("protocol {protocol} is newer than 5")));
                }
            }
            op::FRAME => {
                self.take(8)?;
            }

            op::MARK => self.marks.push(self.stack.len()),
            op::POP if self.stack.len() > self.floor() => {
                self.pop()?;
            }
            op::POP | op::POP_MARK => {
                self.since_mark()?;
            }
            op::DUP => {
                let top = self.top()?;
                self.stack.push(top);
            }

            op::NONE => self.stack.push(Value::None),
            op::NEWTRUE => self.stack.push(Value::Bool(true)),
            op::NEWFALSE => self.stack.push(Value::Bool(false)),
            op::BININT => {
                let number = i32::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(number.into()));
            }
            op::BININT1 => {
                let number = self.byte()?;
                self.stack.push(Value::Int(number.into()));
            }
            op::BININT2 => {
                let number = u16::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(number.into()));
            }
            op::LONG1 => {
                let count = self.byte()?;
                self.long(count.into())?;
            }
            op::LONG4 => {
                let count = self.count4()?;
                self.long(count)?;
            }
            op::INT | op::LONG => {
                let value = match self.line()?.trim_end_matches('L') {
                    "00" => Value::Bool(false),
                    "01" => Value::Bool(true),
                    text => text.parse().map_or(Value::Other, Value::Int),
                };
                self.stack.push(value);
            }
            op::FLOAT => {
                self.line()?;
                self.stack.push(Value::Other);
            }
            op::BINFLOAT => {
                self.take(8)?;
                self.stack.push(Value::Other);
            }

            op::SHORT_BINUNICODE => {
                let count = self.byte()?;
                self.text(count.into())?;
            }
            op::BINUNICODE => {
                let count = self.count4()?;
                self.text(count)?;
            }
            op::BINUNICODE8 => {
                let count = self.count8()?;
                self.text(count)?;
            }
            op::SHORT_BINSTRING => {
                let count = self.byte()?;
                self.string(count.into())?;
            }
            op::BINSTRING => {
                let count = self.count4()?;
                self.string(count)?;
            }
            op::SHORT_BINBYTES => {
                let count = self.byte()?;
                self.other(count.into())?;
            }
            op::BINBYTES => {
                let count = self.count4()?;
                self.other(count)?;
            }
            op::BINBYTES8 | op::BYTEARRAY8 => {
                let count = self.count8()?;
                self.other(count)?;
            }

            op::EMPTY_TUPLE => self.tuple(0)?,
            op::TUPLE1 => self.tuple(1)?,
            op::TUPLE2 => self.tuple(2)?,
            op::TUPLE3 => self.tuple(3)?,
            op::TUPLE => {
                let items = self.since_mark()?;
                let tuple = Value::Tuple(self.keep(items));
                self.stack.push(tuple);
            }
            op::EMPTY_LIST => {
                let list = Value::List(self.keep(Vec::new()));
                self.stack.push(list);
            }
            op::LIST => {
                let items = self.since_mark()?;
                let list = Value::List(self.keep(items));
                self.stack.push(list);
            }
            op::APPEND => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            op::APPENDS => {
                let items = self.since_mark()?;
                self.append(&items)?;
            }
            op::EMPTY_DICT => {
                let dict = self.dict();
                self.stack.push(dict);
            }
            op::DICT => {
                let items = self.since_mark()?;
                let dict = self.dict();
                self.stack.push(dict);
                self.set(&items)?;
            }
            op::SETITEM => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(&[key, value])?;
            }
            op::SETITEMS => {
                let items = self.since_mark()?;
                self.set(&items)?;
            }
            op::EMPTY_SET => self.stack.push(Value::Other),
            op::ADDITEMS => {
                self.since_mark()?;
                self.top()?;
            }
            op::FROZENSET => {
                self.since_mark()?;
                self.stack.push(Value::Other);
            }

            op::BINPUT => {
                let place = self.byte()?;
                self.memoize(place.into())?;
            }
            op::LONG_BINPUT => {
                let place = u32::from_le_bytes(self.array()?);
                self.memoize(place)?;
            }
            op::MEMOIZE => {
                // Fits: there are not more entries than steps.
                let place = self.memo.len() as u32;
                self.memoize(place)?;
            }
            op::BINGET => {
                let place = self.byte()?;
                self.recall(place.into())?;
            }
            op::LONG_BINGET => {
                let place = u32::from_le_bytes(self.array()?);
                self.recall(place)?;
            }

            op::GLOBAL => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name);
            }
            op::STACK_GLOBAL => {
                let name = self.pop()?;
                let (Value::Text(module), Value::Text(name)) = (self.pop()?, name) else {
                    return Err(wrong("the name of a global is no text"));
                };
                self.global(module, name);
            }
            op::REDUCE => {
                let arguments = self.pop()?;
                let function = self.pop()?;
                let value = self.call(function, arguments)?;
                self.stack.push(value);
            }
            op::NEWOBJ => {
                self.pop()?;
                let class = self.pop()?;
                let value = opaque(class)?;
                self.stack.push(value);
            }
            op::NEWOBJ_EX => {
                self.pop()?;
                self.pop()?;
                let class = self.pop()?;
                let value = opaque(class)?;
                self.stack.push(value);
            }
            op::BUILD => {
                // Attributes of an object: `_metadata` of a state dict, say.
                self.pop()?;
                if !matches!(self.top()?, Value::Dict(_) | Value::Opaque(_)) {
                    return Err(wrong("attributes are set on what has none"));
                }
            }
            op::BINPERSID => {
                let id = self.pop()?;
                let value = self.persistent(id)?;
                self.stack.push(value);
            }
            other => {
                return Err(wrong(format!("operation {other:#04x} is none that torch writes")));
            }
        }
        Ok(())
    }

    pub(super) fn spend(&mut self, steps: usize) -> Result<()> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > MOST_STEPS {
            return Err(wrong(format!("it takes more than {MOST_STEPS} steps")));
        }
        Ok(())
    }

    // What follows an operation in the file.

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| wrong("it ends too early, or is larger than 32 MiB"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.take(N)?;
        bytes.first_chunk().copied().ok_or_else(|| wrong("it ends too early"))
    }

    fn byte(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    fn count4(&mut self) -> Result<usize> {
        self.array().map(|bytes| u32::from_le_bytes(bytes) as usize)
    }

    fn count8(&mut self) -> Result<usize> {
        let count = u64::from_le_bytes(self.array()?);
        usize::try_from(count).map_err(|_| wrong("it ends too early"))
    }

    fn line(&mut self) -> Result<&'a str> {
        let count = self.rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(count.ok_or_else(|| wrong("it ends within a line"))?)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|_| wrong("a line is no UTF-8"))
    }

    fn long(&mut self, count: usize) -> Result<()> {
        let bytes = self.take(count)?;
        let value = if count <= 8 {
            let negative = bytes.last().is_some_and(|&last| last & 0x80 != 0);
            let mut full = [if negative { 0xff } else { 0 }; 8];
            for (to, &from) in full.iter_mut().zip(bytes) {
                *to = from;
            }
            Value::Int(i64::from_le_bytes(full))
        } else {
            Value::Long(bytes)
        };
        self.stack.push(value);
        Ok(())
    }

    fn text(&mut self, count: usize) -> Result<()> {
        let text =
            std::str::from_utf8(self.take(count)?).map_err(|_| wrong("a text is no UTF-8"))?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    /// A string of Python 2, which is text or bytes.
    fn string(&mut self, count: usize) -> Result<()> {
        let value = std::str::from_utf8(self.take(count)?).map_or(Value::Other, Value::Text);
        self.stack.push(value);
        Ok(())
    }

    fn other(&mut self, count: usize) -> Result<()> {
        self.take(count)?;
        self.stack.push(Value::Other);
        Ok(())
    }

    // The stack and the memo.

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Value<'a>> {
        let within = self.stack.len() > self.floor();
        self.stack.last().copied().filter(|_| within).ok_or_else(|| wrong("the stack is empty"))
    }

    pub(super) fn pop(&mut self) -> Result<Value<'a>> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn since_mark(&mut self) -> Result<Vec<Value<'a>>> {
        let mark = self.marks.pop().ok_or_else(|| wrong("a mark is missing"))?;
        // Copied, so that the vector has room for its values and no more.
        let values = self.stack.get(mark..).unwrap_or_default().to_vec();
        self.stack.truncate(mark);
        Ok(values)
    }

    fn memoize(&mut self, place: u32) -> Result<()> {
        let top = self.top()?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn recall(&mut self, place: u32) -> Result<()> {
        let value = self.memo.get(&place).copied();
        self.stack.push(value.ok_or_else(|| wrong("the memo lacks a value"))?);
        Ok(())
    }

    // Values that contain others.

    fn keep(&mut self, items: Vec<Value<'a>>) -> usize {
        self.pickle.items.push(items);
        self.pickle.items.len() - 1
    }

    fn tuple(&mut self, count: usize) -> Result<()> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.pop()?);
        }
        items.reverse();
        let tuple = Value::Tuple(self.keep(items));
        self.stack.push(tuple);
        Ok(())
    }

    fn append(&mut self, items: &[Value<'a>]) -> Result<()> {
        match self.top()? {
            Value::List(index) => {
                if let Some(list) = self.pickle.items.get_mut(index) {
                    list.extend_from_slice(items);
                }
                Ok(())
            }
            Value::Opaque(_) => Ok(()),
            _ => Err(wrong("items are appended to what is no list")),
        }
    }

    pub(super) fn dict(&mut self) -> Value<'a> {
        self.pickle.dicts.push(Dict::default());
        Value::Dict(self.pickle.dicts.len() - 1)
    }

    /// Sets entries of the dictionary on top: keys and values by turns.
    pub(super) fn set(&mut self, items: &[Value<'a>]) -> Result<()> {
        let (pairs, left) = items.as_chunks::<2>();
        if !left.is_empty() {
            return Err(wrong("a key has no value"));
        }
        match self.top()? {
            Value::Dict(index) => {
                let tensors = pairs.iter().any(|&[_, value]| self.pickle.is_tensor(value));
                if let Some(dict) = self.pickle.dicts.get_mut(index) {
                    dict.entries.extend(pairs.iter().map(|&[key, value]| (key, value)));
                    dict.holds_tensors |= tensors;
                }
                Ok(())
            }
            Value::Opaque(_) => Ok(()),
            _ => Err(wrong("entries are set in what is no dictionary")),
        }
    }

    // Names of Python objects and their calls.

    fn global(&mut self, module: &'a str, name: &'a str) {
        self.pickle.globals.push(Global { module, name });
        self.stack.push(Value::Global(self.pickle.globals.len() - 1));
    }
}

/// What a call makes that is never done.
pub(super) fn opaque(function: Value<'_>) -> Result<Value<'_>> {
    match function {
        Value::Global(index) | Value::Opaque(index) => Ok(Value::Opaque(index)),
        _ => Err(wrong("it calls what is no function")),
    }
}

pub(super) fn wrong(message: impl AsRef<str>) -> PthError {
    PthError::new(format!("the pickle cannot be read: {}", message.as_ref()))
}
