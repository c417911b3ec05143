//! The names that mean something in a pickle: the whole of what can be called, and the classes of
//! storages and kinds of numbers. No name is looked up anywhere; these are all there are.

use super::pickle::{Machine, opaque, wrong};
use super::values::{Element, Global, Storage, Value, View};
use super::{PthKind, Result};

impl<'a> Machine<'a> {
    fn named(&self, value: Value<'a>) -> Option<Global<'a>> {
        match value {
            Value::Global(index) => self.pickle.globals.get(index).copied(),
            _ => None,
        }
    }

    /// The whole of what a pickle can call; whatever else it calls makes an opaque value.
    pub(super) fn call(&mut self, function: Value<'a>, arguments: Value<'a>) -> Result<Value<'a>> {
        let Some(Global { module, name }) = self.named(function) else {
            return opaque(function);
        };
        let given = self.pickle.items(arguments).unwrap_or_default();
        match (module, name) {
            ("torch._tensor" | "torch.tensor", "_rebuild_from_type_v2" | "_rebuild_from_type") => {
                // A tensor with attributes: the function, the class, its arguments.
                let &[inner, class, arguments, ..] = given else {
                    return Err(wrong(format!("`{name}` lacks arguments")));
                };
                match (self.named(inner), self.named(class)) {
                    (Some(inner), Some(class)) if is_plain_tensor(class) => {
                        Ok(self.rebuild(inner, arguments)?.unwrap_or(opaque(function)?))
                    }
                    _ => opaque(function),
                }
            }
            ("collections", "OrderedDict") => {
                // Python 2 gives the entries as an argument: a list of pairs, which may be shared, so
                // that copying it has to be paid for.
                let pairs = given.first().copied().unwrap_or(Value::None);
                self.spend(self.pickle.items(pairs).map_or(0, <[_]>::len))?;
                let mut items = Vec::new();
                for &pair in self.pickle.items(pairs).unwrap_or_default() {
                    match self.pickle.items(pair) {
                        Some(&[key, value]) => items.extend([key, value]),
                        _ => return Err(wrong("an entry of a dictionary is no pair")),
                    }
                }
                let dict = self.dict();
                self.stack.push(dict);
                self.set(&items)?;
                self.pop()
            }
            ("torch", "Size") => match given.first() {
                Some(&size @ Value::Tuple(_)) => Ok(size),
                _ => opaque(function),
            },
            _ => Ok(self.rebuild(Global { module, name }, arguments)?.unwrap_or(opaque(function)?)),
        }
    }

    /// The functions of torch that put a tensor together; nothing for any other function.
    fn rebuild(
        &mut self,
        Global { module, name }: Global<'a>,
        arguments: Value<'a>,
    ) -> Result<Option<Value<'a>>> {
        if module != "torch._utils" {
            return Ok(None);
        }
        let given = self.pickle.items(arguments).unwrap_or_default();
        let (dtype, metadata) = match name {
            "_rebuild_parameter" | "_rebuild_parameter_with_state" => {
                let data = given.first().copied().filter(|&data| self.pickle.is_tensor(data));
                return data.map(Some).ok_or_else(|| wrong(format!("`{name}` is given no tensor")));
            }
            "_rebuild_tensor" => (None, None),
            "_rebuild_tensor_v2" => (None, given.get(6)),
            "_rebuild_tensor_v3" => (given.get(6).copied(), given.get(7)),
            _ => return Ok(None),
        };
        let &[Value::Storage(storage), Value::Int(offset), size, stride, ..] = given else {
            return Err(wrong(format!("`{name}` is given no storage with a size and strides")));
        };
        let element = match (name, dtype) {
            ("_rebuild_tensor_v3", dtype) => dtype
                .and_then(|dtype| self.named(dtype))
                .filter(|global| global.module == "torch")
                .map(|global| dtype_named(global.name))
                .ok_or_else(|| wrong("a tensor lacks its dtype"))?,
            _ => self.pickle.storages[storage].element,
        };
        let lazy = match metadata {
            None | Some(Value::None) => false,
            Some(&Value::Dict(index)) => !self.pickle.dict(index).entries.is_empty(),
            Some(_) => true,
        };
        self.pickle.tensors.push(View { storage, element, offset, size, stride, lazy });
        Ok(Some(Value::Tensor(self.pickle.tensors.len() - 1)))
    }

    /// What lies outside the pickle: storages, and the classes of pickled modules.
    pub(super) fn persistent(&mut self, id: Value<'a>) -> Result<Value<'a>> {
        let given = self.pickle.items(id).unwrap_or_default();
        let (class, key, count, part) = match *given {
            [Value::Text("module"), class @ Value::Global(_), ..] => return Ok(class),
            [Value::Text("storage"), class, Value::Text(key), _, Value::Int(count)] => {
                (class, key, count, Value::None)
            }
            [Value::Text("storage"), class, Value::Text(key), _, Value::Int(count), part] => {
                (class, key, count, part)
            }
            _ => return Err(wrong("it refers to something that is no storage")),
        };
        let class = self.named(class).ok_or_else(|| wrong("a storage has no class"))?;
        let element = storage_named(class).ok_or_else(|| {
            wrong(format!("storages of class `{}` are not known here", class.shown()))
        })?;
        let amount = |count: i64| {
            u64::try_from(count).map_err(|_| wrong("a storage has a negative size or offset"))
        };
        let count = amount(count)?;
        let (start, length) = match part {
            Value::None => (0, count),
            part => match self.pickle.items(part) {
                Some(&[_, Value::Int(start), Value::Int(length)]) => {
                    (amount(start)?, amount(length)?)
                }
                _ => return Err(wrong("a part of a storage is not described")),
            },
        };
        self.pickle.storages.push(Storage { key, element, count, start, length });
        Ok(Value::Storage(self.pickle.storages.len() - 1))
    }
}

fn is_plain_tensor(class: Global<'_>) -> bool {
    matches!(
        (class.module, class.name),
        ("torch" | "torch._tensor" | "torch.tensor", "Tensor")
            | ("torch.nn.parameter", "Parameter" | "Buffer")
    )
}

fn storage_named(Global { module, name }: Global<'_>) -> Option<Element<'_>> {
    if !matches!(module, "torch" | "torch.cuda" | "torch.storage") {
        return None;
    }
    let (kind, bytes) = match name {
        "ComplexDoubleStorage" => (None, 16),
        "ComplexFloatStorage" => (None, 8),
        "QInt32Storage" => (None, 4),
        "QInt8Storage" | "QUInt8Storage" | "QUInt4x2Storage" | "QUInt2x4Storage" => (None, 1),
        _ => {
            let kind = match name {
                "DoubleStorage" => PthKind::F64,
                "FloatStorage" => PthKind::F32,
                "HalfStorage" => PthKind::F16,
                "BFloat16Storage" => PthKind::BF16,
                "LongStorage" => PthKind::I64,
                "IntStorage" => PthKind::I32,
                "ShortStorage" => PthKind::I16,
                "CharStorage" => PthKind::I8,
                "ByteStorage" | "UntypedStorage" | "_UntypedStorage" => PthKind::U8,
                "BoolStorage" => PthKind::Bool,
                _ => return None,
            };
            (Some(kind), kind.bytes())
        }
    };
    Some(Element { name, kind, bytes })
}

fn dtype_named(name: &str) -> Element<'_> {
    let kind = match name {
        "float64" | "double" => PthKind::F64,
        "float32" | "float" => PthKind::F32,
        "float16" | "half" => PthKind::F16,
        "bfloat16" => PthKind::BF16,
        "int64" | "long" => PthKind::I64,
        "int32" | "int" => PthKind::I32,
        "int16" | "short" => PthKind::I16,
        "int8" => PthKind::I8,
        "uint8" => PthKind::U8,
        "bool" => PthKind::Bool,
        _ => return Element { name, kind: None, bytes: 1 },
    };
    Element { name, kind: Some(kind), bytes: kind.bytes() }
}
