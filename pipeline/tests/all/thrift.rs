//! Structures of Thrift's compact protocol as a tree, so that a test may change fields of Parquet's metadata and
//! write sound bytes again: a change of bytes mostly makes no structure at all.

use random::Rng;

/// A value; whole numbers with their type.
#[derive(Clone)]
pub enum Value {
    Number(u8, i64),
    Truth(bool),
    Byte(u8),
    Float([u8; 8]),
    Bytes(Vec<u8>),
    List(u8, Vec<Value>),
    Structure(Vec<(i16, Value)>),
}

use Value::{Byte, Bytes, Float, List, Number, Structure, Truth};

const NUMBERS: [i64; 16] = [
    0,
    1,
    -1,
    2,
    7,
    127,
    256,
    1 << 15,
    (1 << 31) - 1,
    1 << 31,
    -(1 << 31),
    1 << 32,
    1 << 40,
    1 << 62,
    i64::MAX,
    i64::MIN,
];

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes.split_off_first().unwrap();
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            break;
        }
    }
    value
}

fn number(bytes: &mut &[u8]) -> i64 {
    let value = varint(bytes);
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Reads a structure off the front of sound bytes.
pub fn structure(bytes: &mut &[u8]) -> Value {
    let (mut fields, mut id) = (Vec::new(), 0);
    loop {
        let head = *bytes.split_off_first().unwrap();
        if head == 0 {
            return Structure(fields);
        }
        id = if head >> 4 == 0 { number(bytes) as i16 } else { id + i16::from(head >> 4) };
        let value = match head & 15 {
            kind @ (1 | 2) => Truth(kind == 1),
            kind => value(bytes, kind),
        };
        fields.push((id, value));
    }
}

fn value(bytes: &mut &[u8], kind: u8) -> Value {
    match kind {
        1..=3 => Byte(*bytes.split_off_first().unwrap()),
        4..=6 => Number(kind, number(bytes)),
        7 => Float(bytes.split_off(..8).unwrap().try_into().unwrap()),
        8 => {
            let length = varint(bytes) as usize;
            Bytes(bytes.split_off(..length).unwrap().to_vec())
        }
        9 => {
            let head = *bytes.split_off_first().unwrap();
            let count = if head >> 4 == 15 { varint(bytes) } else { (head >> 4).into() };
            List(head & 15, (0..count).map(|_| value(bytes, head & 15)).collect())
        }
        12 => structure(bytes),
        other => panic!("type {other}"),
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_number(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

impl Value {
    /// The bytes of it.
    pub fn written(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn kind(&self) -> u8 {
        match self {
            Number(kind, _) => *kind,
            Truth(truth) => 2 - u8::from(*truth),
            Byte(_) => 3,
            Float(_) => 7,
            Bytes(_) => 8,
            List(..) => 9,
            Structure(_) => 12,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Number(_, value) => put_number(out, *value),
            Truth(_) => {}
            Byte(byte) => out.push(*byte),
            Float(bytes) => out.extend(bytes),
            Bytes(bytes) => {
                put_varint(out, bytes.len() as u64);
                out.extend(bytes);
            }
            List(kind, values) => {
                out.push(0xf0 | kind);
                put_varint(out, values.len() as u64);
                values.iter().for_each(|value| value.write(out));
            }
            Structure(fields) => {
                let mut last = 0;
                for (id, value) in fields {
                    match id - last {
                        step @ 1..16 => out.push((step as u8) << 4 | value.kind()),
                        _ => {
                            out.push(value.kind());
                            put_number(out, (*id).into());
                        }
                    }
                    last = *id;
                    value.write(out);
                }
                out.push(0);
            }
        }
    }

    /// The field of a structure.
    pub fn field(&mut self, id: i16) -> Option<&mut Value> {
        let Structure(fields) = self else { panic!("no structure") };
        fields.iter_mut().find(|(other, _)| *other == id).map(|(_, value)| value)
    }

    /// The elements of a list.
    pub fn elements(&mut self) -> &mut Vec<Value> {
        let List(_, values) = self else { panic!("no list") };
        values
    }

    /// The number of a field.
    pub fn number(&mut self, id: i16) -> Option<&mut i64> {
        self.field(id).map(|value| match value {
            Number(_, number) => number,
            _ => panic!("no number"),
        })
    }

    fn nodes(&self) -> usize {
        1 + match self {
            List(_, values) => values.iter().map(Value::nodes).sum(),
            Structure(fields) => fields.iter().map(|(_, value)| value.nodes()).sum(),
            _ => 0,
        }
    }

    fn node(&mut self, mut place: usize) -> &mut Value {
        if place == 0 {
            return self;
        }
        place -= 1;
        let within: Vec<&mut Value> = match self {
            List(_, values) => values.iter_mut().collect(),
            Structure(fields) => fields.iter_mut().map(|(_, value)| value).collect(),
            _ => unreachable!(),
        };
        for value in within {
            let nodes = value.nodes();
            if place < nodes {
                return value.node(place);
            }
            place -= nodes;
        }
        unreachable!()
    }

    /// Changes one to three of its values.
    pub fn mutate(&mut self, rng: &mut Rng) {
        for _ in 0..[1, 1, 1, 2, 3][rng.integer(0, 4) as usize] {
            let nodes = self.nodes() as u32;
            self.node(rng.integer(0, nodes - 1) as usize).change(rng);
        }
    }

    fn change(&mut self, rng: &mut Rng) {
        let of = |rng: &mut Rng, count: usize| rng.integer(0, count as u32 - 1) as usize;
        match self {
            Number(_, value) => {
                *value = match rng.integer(0, 5) {
                    0 => value.wrapping_add(1),
                    1 => value.wrapping_neg(),
                    2 => value.wrapping_mul(2),
                    3 => value.wrapping_add(i64::from(rng.integer(0, 100)) - 50),
                    _ => NUMBERS[of(rng, NUMBERS.len())],
                }
            }
            Truth(truth) => *truth = !*truth,
            Byte(byte) => *byte = [0, 1, 127, 128, 255][of(rng, 5)],
            Float(bytes) => *bytes = [0xff; 8],
            Bytes(bytes) => match rng.integer(0, 3) {
                0 => bytes.clear(),
                1 => bytes.extend_from_within(..),
                2 => *bytes = b"A".repeat(10_000),
                _ => *bytes = b"\xff\xfe".to_vec(),
            },
            List(_, values) if !values.is_empty() => match rng.integer(0, 4) {
                0 => drop(values.remove(of(rng, values.len()))),
                1 => {
                    let value = values[of(rng, values.len())].clone();
                    values.insert(of(rng, values.len()), value);
                }
                2 => values.clear(),
                3 => *values = vec![values[of(rng, values.len())].clone(); 300],
                _ => values.reverse(),
            },
            Structure(fields) if !fields.is_empty() => drop(fields.remove(of(rng, fields.len()))),
            _ => {}
        }
    }
}
