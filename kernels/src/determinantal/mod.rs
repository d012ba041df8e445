//! Exact draws from projection determinantal point processes (Hough, Krishnapur, Peres, Virág 2006) whose functions are
//! products of tabulated values: many samples of up to a few hundred points at once, one for each block of a device; and the
//! parts of larger samples beside products of matrices, which are [`crate::kronecker`]'s.
//!
//! A candidate is accepted where u ‖φ‖² < ‖φ‖² − ‖Qφ‖², u its uniform number, Q an orthonormal basis of the features accepted
//! before it. Which candidates are accepted does not depend on the device (but for ties in rounding).

mod cpu;
mod cuda;

use crate::{Buffer, Device, KernelError, Result};

/// Points of a sample that one block of a device draws, at most.
pub const MAX_POINTS: usize = 256;

/// Functions that are products of the entries of a table of one candidate: values of one-dimensional functions.
#[derive(Debug)]
pub struct Products {
    device: Device,
    functions: usize,
    entries: usize,
    /// Where the places of each function start; one more than functions.
    starts: Buffer<i32>,
    places: Buffer<i32>,
    /// The same for the host.
    factors: Vec<Vec<usize>>,
}

impl Products {
    /// Function j multiplies the entries `factors[j]` of a table of `entries` numbers.
    ///
    /// # Errors
    /// A place beyond the table, sizes beyond 2^31; no room on the device.
    pub fn new(device: &Device, entries: usize, factors: Vec<Vec<usize>>) -> Result<Self> {
        if let Some(index) = factors.iter().flatten().copied().find(|place| *place >= entries) {
            return Err(KernelError::Index { what: "entry of a table", index, bound: entries });
        }
        let count: usize = factors.iter().map(Vec::len).sum();
        if count.max(entries).max(factors.len()) > i32::MAX as usize {
            return Err(KernelError::Index { what: "factors", index: count, bound: i32::MAX as usize });
        }
        let mut starts = vec![0];
        starts.extend(factors.iter().scan(0, |end, f| {
            *end += f.len() as i32;
            Some(*end)
        }));
        let places = factors.iter().flatten().map(|place| *place as i32).collect();
        Ok(Self {
            functions: factors.len(),
            entries,
            starts: Buffer::from_vec(device, starts)?,
            places: Buffer::from_vec(device, places)?,
            factors,
            device: device.clone(),
        })
    }

    /// m.
    pub fn functions(&self) -> usize {
        self.functions
    }

    /// Numbers in a candidate's table.
    pub fn entries(&self) -> usize {
        self.entries
    }

    fn value(&self, j: usize, table: &[f64]) -> f64 {
        self.factors[j].iter().map(|place| table[*place]).product()
    }

    /// φ/‖φ‖ of candidates with `tables`, `[n, entries]`, into `out`, `[m, n]`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn unit_features(&mut self, tables: &mut Buffer<f64>, out: &mut Buffer<f64>) -> Result<()> {
        let n = tables.len() / self.entries.max(1);
        expect("tables [n, entries]", tables.len(), n * self.entries)?;
        expect("out [m, n]", out.len(), self.functions * n)?;
        match self.device.clone() {
            Device::Gpu(gpu) => cuda::features(&gpu, self, n, tables, out),
            Device::Cpu => {
                cpu::features(self, tables.host(), out.host_out());
                Ok(())
            }
        }
    }
}

/// Samples that are being drawn.
#[derive(Debug)]
pub struct Samples {
    samples: usize,
    points: usize,
    /// Orthonormal bases of the accepted features, `[sample, m, m]`.
    bases: Buffer<f64>,
    counts: Buffer<i32>,
    accepted: Buffer<u64>,
}

impl Samples {
    /// `samples` of the process of `products`, none of which has a point yet.
    ///
    /// # Errors
    /// More than [`MAX_POINTS`] functions; no room on the device.
    pub fn new(products: &Products, samples: usize) -> Result<Self> {
        let (m, device) = (products.functions, &products.device);
        if m > MAX_POINTS {
            return Err(KernelError::Index { what: "functions of a sample", index: m, bound: MAX_POINTS + 1 });
        }
        Ok(Self {
            samples,
            points: m,
            bases: Buffer::zeros(device, samples * m * m)?,
            counts: Buffer::zeros(device, samples)?,
            accepted: Buffer::zeros(device, samples * m)?,
        })
    }

    /// Looks at candidates `first`, `first + 1`, … of every sample: their tables `[sample, chunk, entries]` and uniform
    /// numbers `[sample, chunk]`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn advance(
        &mut self,
        products: &mut Products,
        first: u64,
        tables: &mut Buffer<f64>,
        uniforms: &mut Buffer<f64>,
    ) -> Result<()> {
        let chunk = uniforms.len() / self.samples.max(1);
        expect("functions", products.functions, self.points)?;
        expect("uniforms [sample, chunk]", uniforms.len(), self.samples * chunk)?;
        expect("tables [sample, chunk, entries]", tables.len(), uniforms.len() * products.entries)?;
        if uniforms.is_empty() {
            return Ok(());
        }
        match products.device.clone() {
            Device::Gpu(gpu) => cuda::advance(&gpu, products, self, (chunk, first), tables, uniforms),
            Device::Cpu => {
                let m = self.points;
                let bases = self.bases.host_mut().chunks_mut(m * m);
                let accepted = self.accepted.host_mut().chunks_mut(m);
                let parts = bases.zip(self.counts.host_mut()).zip(accepted);
                let samples = parts.map(|((basis, count), accepted)| cpu::Sample { basis, count, accepted }).collect();
                cpu::advance(products, chunk, first, (tables.host(), uniforms.host()), samples);
                Ok(())
            }
        }
    }

    /// The accepted candidates of each sample, rising.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn accepted(&mut self) -> Result<Vec<Vec<u64>>> {
        self.counts.sync()?;
        self.accepted.sync()?;
        let lists = self.accepted.host().chunks(self.points.max(1)).zip(self.counts.host());
        Ok(lists.map(|(list, count)| list[..*count as usize].to_vec()).collect())
    }
}

/// Σ_k x[k, i]² for each i: x is `[rows, n]`.
///
/// # Errors
/// Where the length is no multiple of `n`, or the device fails.
pub fn squared_lengths(device: &Device, n: usize, x: &mut Buffer<f64>) -> Result<Vec<f64>> {
    let rows = x.len() / n.max(1);
    expect("x [rows, n]", x.len(), rows * n)?;
    match device {
        Device::Gpu(gpu) => cuda::squared_lengths(gpu, rows, n, x),
        Device::Cpu => {
            let mut sums = vec![0.0; n];
            for row in x.host().chunks(n.max(1)) {
                sums.iter_mut().zip(row).for_each(|(s, v)| *s += v * v);
            }
            Ok(sums)
        }
    }
}

/// The columns `chosen` of x, `[rows, n]`, as rows: `[chosen, rows]`.
///
/// # Errors
/// A column beyond n; where the length is no multiple of `n`, or the device fails.
pub fn gather(device: &Device, n: usize, chosen: &[usize], x: &mut Buffer<f64>) -> Result<Vec<f64>> {
    let rows = x.len() / n.max(1);
    expect("x [rows, n]", x.len(), rows * n)?;
    if let Some(index) = chosen.iter().copied().find(|column| *column >= n) {
        return Err(KernelError::Index { what: "column", index, bound: n });
    }
    match device {
        Device::Gpu(gpu) => cuda::gather(gpu, rows, n, chosen, x),
        Device::Cpu => {
            let x = x.host();
            Ok(chosen.iter().flat_map(|column| (0..rows).map(move |k| x[k * n + column])).collect())
        }
    }
}

fn expect(what: &'static str, got: usize, expected: usize) -> Result<()> {
    if got == expected { Ok(()) } else { Err(KernelError::Shape { what, expected, got }) }
}
