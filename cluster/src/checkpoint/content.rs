//! What goes into a checkpoint: the workload's state as it stands, or a copy of it.
//!
//! The copy is the second buffer that lets the computation go on while the first state is written.

use crate::fields::{Data, Fields, Value};
use crate::shard::Region;

use super::History;

/// The numbers of one array.
#[derive(Debug, Clone, Copy)]
pub(super) enum Numbers<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    U64(&'a [u64]),
}

/// A number that is the same on every rank.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    U64(u64),
    F64(f64),
}

/// A part of an array, as it is written.
#[derive(Debug, Clone)]
pub(super) struct Part<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    pub region: &'a Region,
    pub numbers: Numbers<'a>,
}

/// One rank's share of a checkpoint. Values and series are rank 0's alone.
#[derive(Debug, Clone, Default)]
pub(super) struct Content<'a> {
    pub parts: Vec<Part<'a>>,
    pub values: Vec<(&'a str, Number)>,
    /// Path in the file, values.
    pub series: Vec<(String, &'a [f64])>,
    /// Names of the history's columns.
    pub history: Vec<&'a str>,
}

impl<'a> Content<'a> {
    /// The state of a workload.
    pub fn of(fields: &'a Fields<'_>, history: &'a History, leads: bool) -> Self {
        let owned = fields.arrays.iter().filter(|a| a.owned && !a.region.is_empty());
        let parts = owned.map(|array| {
            let numbers = match &array.data {
                Data::F32(data) => Numbers::F32(data),
                Data::F64(data) => Numbers::F64(data),
                Data::U64(data) => Numbers::U64(data),
            };
            Part { name: &array.name, shape: &array.shape, region: &array.region, numbers }
        });
        let mut content = Self { parts: parts.collect(), ..Self::default() };
        content.history = history.columns.iter().map(|(name, _)| name.as_str()).collect();
        if leads {
            content.values = fields.values.iter().map(|(name, value)| (name.as_str(), value.into())).collect();
            let series = fields.histories.iter().map(|(name, v)| (format!("/series/{name}"), v.as_slice()));
            let columns = history.columns.iter().map(|(name, v)| (format!("/history/{name}"), v.as_slice()));
            content.series = series.chain(columns).filter(|(_, v)| !v.is_empty()).collect();
        }
        content
    }
}

impl From<&Value<'_>> for Number {
    fn from(value: &Value<'_>) -> Self {
        match value {
            Value::U64(v) => Self::U64(**v),
            Value::F64(v) => Self::F64(**v),
        }
    }
}

#[derive(Debug)]
enum Kept {
    F32(Vec<f32>),
    F64(Vec<f64>),
    U64(Vec<u64>),
}

/// A copy of the state, as a shard holds it: the second buffer. Its memory is used again for the next checkpoint.
#[derive(Debug, Default)]
pub struct Snapshot {
    arrays: Vec<(String, Vec<usize>, Region, Kept)>,
    values: Vec<(String, Number)>,
    series: Vec<(String, Vec<f64>)>,
    history: Vec<String>,
}

impl Snapshot {
    /// Copies `content`; one read and one write of each byte, no more if the shapes are those of the last time.
    pub(super) fn fill(&mut self, content: &Content<'_>) {
        let mut old = std::mem::take(&mut self.arrays).into_iter();
        for part in &content.parts {
            let kept = match (part.numbers, old.next().map(|(_, _, _, kept)| kept)) {
                (Numbers::F32(data), Some(Kept::F32(buffer))) => Kept::F32(refill(buffer, data)),
                (Numbers::F64(data), Some(Kept::F64(buffer))) => Kept::F64(refill(buffer, data)),
                (Numbers::U64(data), Some(Kept::U64(buffer))) => Kept::U64(refill(buffer, data)),
                (Numbers::F32(data), _) => Kept::F32(data.to_vec()),
                (Numbers::F64(data), _) => Kept::F64(data.to_vec()),
                (Numbers::U64(data), _) => Kept::U64(data.to_vec()),
            };
            self.arrays.push((part.name.to_owned(), part.shape.to_vec(), part.region.clone(), kept));
        }
        self.values = content.values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        self.series = content.series.iter().map(|(name, values)| (name.clone(), values.to_vec())).collect();
        self.history = content.history.iter().map(|name| (*name).to_owned()).collect();
    }

    pub(super) fn content(&self) -> Content<'_> {
        let parts = self.arrays.iter().map(|(name, shape, region, kept)| {
            let numbers = match kept {
                Kept::F32(data) => Numbers::F32(data),
                Kept::F64(data) => Numbers::F64(data),
                Kept::U64(data) => Numbers::U64(data),
            };
            Part { name, shape, region, numbers }
        });
        Content {
            parts: parts.collect(),
            values: self.values.iter().map(|(name, value)| (name.as_str(), *value)).collect(),
            series: self.series.iter().map(|(name, values)| (name.clone(), values.as_slice())).collect(),
            history: self.history.iter().map(String::as_str).collect(),
        }
    }
}

fn refill<T: Copy>(mut buffer: Vec<T>, data: &[T]) -> Vec<T> {
    buffer.clear();
    buffer.extend_from_slice(data);
    buffer
}
