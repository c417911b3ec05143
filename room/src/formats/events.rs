//! Event files of TensorBoard: records of a length, a message of protocol buffers, and their checksums (CRC-32C,
//! rotated and moved by a constant).

use std::io::Write;

use prost::Message;

/// `tensorflow.Event`, as far as scalars need it.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

/// `tensorflow.Summary`.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

/// `tensorflow.Summary.Value`.
#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// An event file that is being written.
pub struct EventFile<W: Write>(W);

impl<W: Write> EventFile<W> {
    /// Begins one.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn new(file: W, wall_time: f64) -> std::io::Result<Self> {
        let mut new = Self(file);
        let version = Some("brain.Event:2".to_owned());
        new.record(&Event { wall_time, file_version: version, ..Event::default() })?;
        Ok(new)
    }

    /// A value of a metric at a step, with its time in seconds since 1970.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn scalar(
        &mut self,
        wall_time: f64,
        step: i64,
        tag: &str,
        value: f64,
    ) -> std::io::Result<()> {
        let value = Value { tag: tag.to_owned(), simple_value: Some(value as f32) };
        let summary = Some(Summary { value: vec![value] });
        self.record(&Event { wall_time, step, summary, ..Event::default() })
    }

    /// Ends it.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn finish(mut self) -> std::io::Result<()> {
        self.0.flush()
    }

    fn record(&mut self, event: &Event) -> std::io::Result<()> {
        let message = event.encode_to_vec();
        let length = (message.len() as u64).to_le_bytes();
        self.0.write_all(&length)?;
        self.0.write_all(&masked(&length).to_le_bytes())?;
        self.0.write_all(&message)?;
        self.0.write_all(&masked(&message).to_le_bytes())
    }
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}
