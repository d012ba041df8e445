//! One description of a workload's state, from which the frame saves, loads and measures it.

use crate::shard::Region;

/// The numbers of one array, by element type.
#[derive(Debug)]
pub enum Data<'a> {
    /// 32-bit floats.
    F32(&'a mut [f32]),
    /// 64-bit floats.
    F64(&'a mut [f64]),
    /// 64-bit integers.
    U64(&'a mut [u64]),
}

impl Data<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(d) => d.len(),
            Self::F64(d) => d.len(),
            Self::U64(d) => d.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        let size = if matches!(self, Self::F32(_)) { 4 } else { 8 };
        (self.len() * size) as u64
    }

    /// Whether every number is finite.
    pub fn is_finite(&self) -> bool {
        match self {
            Self::F32(d) => d.iter().all(|v| v.is_finite()),
            Self::F64(d) => d.iter().all(|v| v.is_finite()),
            Self::U64(_) => true,
        }
    }
}

impl<'a> From<&'a mut [f32]> for Data<'a> {
    fn from(data: &'a mut [f32]) -> Self {
        Self::F32(data)
    }
}

impl<'a> From<&'a mut [f64]> for Data<'a> {
    fn from(data: &'a mut [f64]) -> Self {
        Self::F64(data)
    }
}

impl<'a> From<&'a mut [u64]> for Data<'a> {
    fn from(data: &'a mut [u64]) -> Self {
        Self::U64(data)
    }
}

/// A part of a global array that this rank holds.
#[derive(Debug)]
pub struct Array<'a> {
    /// Name, unique in the state; `/` makes groups.
    pub name: String,
    /// Global shape.
    pub shape: Vec<usize>,
    /// The part that is here.
    pub region: Region,
    /// Whether this rank writes its part; replicas only read it.
    pub owned: bool,
    /// The numbers, row-major over `region`.
    pub data: Data<'a>,
}

/// A number that is the same on every rank.
#[derive(Debug)]
pub enum Value<'a> {
    /// A counter.
    U64(&'a mut u64),
    /// A real.
    F64(&'a mut f64),
}

/// The state of a workload, described by [`crate::Workload::fields`].
#[derive(Debug, Default)]
pub struct Fields<'a> {
    /// Arrays with a global index.
    pub arrays: Vec<Array<'a>>,
    /// Numbers that are the same on every rank.
    pub values: Vec<(String, Value<'a>)>,
    /// Growing series that are the same on every rank.
    pub histories: Vec<(String, &'a mut Vec<f64>)>,
}

impl<'a> Fields<'a> {
    /// An array of global `shape`, of which this rank holds `region`.
    ///
    /// # Panics
    /// If `data` does not have the region's length: a bug of the workload.
    pub fn array(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        region: Region,
        data: impl Into<Data<'a>>,
    ) -> &mut Array<'a> {
        let (name, data) = (name.into(), data.into());
        assert_eq!(data.len(), region.len(), "field '{name}': data and region differ in length");
        self.arrays.push(Array { name, shape: shape.to_vec(), region, owned: true, data });
        self.arrays.last_mut().expect("just pushed")
    }

    /// A counter that is the same on every rank.
    pub fn counter(&mut self, name: impl Into<String>, value: &'a mut u64) {
        self.values.push((name.into(), Value::U64(value)));
    }

    /// A real number that is the same on every rank.
    pub fn real(&mut self, name: impl Into<String>, value: &'a mut f64) {
        self.values.push((name.into(), Value::F64(value)));
    }

    /// A growing series that is the same on every rank.
    pub fn history(&mut self, name: impl Into<String>, series: &'a mut Vec<f64>) {
        self.histories.push((name.into(), series));
    }

    /// Bytes that this rank writes into a checkpoint.
    pub fn bytes(&self) -> u64 {
        self.arrays.iter().filter(|a| a.owned).map(|a| a.data.bytes()).sum()
    }

    /// The first array that holds a number which is not finite.
    pub fn first_not_finite(&self) -> Option<&str> {
        self.arrays.iter().find(|a| !a.data.is_finite()).map(|a| a.name.as_str())
    }
}
