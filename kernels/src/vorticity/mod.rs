//! Incompressible flow on a periodic square as vorticity, pseudo-spectrally and in double precision: many samples at once.
//!
//! w_t = N(w) + L w with u = ψ_y, v = −ψ_x, Δψ = −w, and N(w) = f − u·∇w in the form of Basdevant (J. Comput. Phys. 50, 1983),
//! u·∇w = (∂_xx − ∂_yy)(uv) + ∂_xy(v² − u²): two real fields go to the points and two come back.
//!
//! Transforms are products with matrices along each axis ([`mode_product`], the f64 matrix unit), cut to the kept modes: any number of points, no
//! bit reversal, no transposition, and sums in an order that depends on nothing but the grid. Bits of a sample do not depend on those beside it.
//!
//! Arrays are row-major. Coefficients are means over the points, of the half k_y ≥ 0: `[k_y, k_x, re | im]` with k_x = 0 … m, −m … −1.
//!
//! | | |
//! |---|---|
//! | û = iκ_y ŵ/\|κ\|², v̂ = −iκ_x ŵ/\|κ\|² | `[sample, û \| v̂, k_y, k_x, re \| im]` |
//! | along x, then along y | `[sample, field, k_y, re \| im, x]`, `[sample, field, y, x]` |
//! | u, v ← uv, v² − u² | the same, and the same ways back |
//! | h ← N + βh, w ← ((1 + aL) w + γh)/(1 − bL) | a [`Stage`] |
//!
//! The processor has plain loops around its fast products; workloads have their own code for it, with FFTs.

mod cuda;
pub mod reference;
#[cfg(test)]
mod tests;

use std::f64::consts::TAU;

use crate::fourier_layer::{at_least_one, expect};
use crate::kronecker::{Matrix, mode_product};
use crate::{Buffer, Device, KernelError, Result};

type Array = Buffer<f64>;

/// Points of a periodic square, and the modes |k_x|, |k_y| ≤ m that are kept of functions on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Points along each axis.
    pub points: usize,
    /// Largest mode, m. Products of two functions are free of aliasing in the kept modes where 3m is below the points (Orszag 1971).
    pub largest: usize,
    /// Wave number of mode 1: 2π/length.
    pub unit: f64,
}

impl Grid {
    /// Modes along x.
    pub fn width(&self) -> usize {
        2 * self.largest + 1
    }

    /// Modes of one function.
    pub fn modes(&self) -> usize {
        (self.largest + 1) * self.width()
    }

    /// Values at the points.
    fn area(&self) -> usize {
        self.points * self.points
    }

    /// Numbers between the two transforms of one function.
    fn lines(&self) -> usize {
        2 * (self.largest + 1) * self.points
    }

    fn check(&self) -> Result<()> {
        // Places inside one function are counted in 32 bits.
        let (points, largest) = (self.points, self.largest);
        for (what, value, rule, holds) in [
            ("points along an axis", points as f64, "1 to 2^14", (1..=1 << 14).contains(&points)),
            ("the largest mode", largest as f64, "below half of the points", 2 * largest < points),
            ("the wave number of mode 1", self.unit, "a positive number", self.unit > 0.0 && self.unit.is_finite()),
        ] {
            if !holds {
                return Err(KernelError::Parameter { what, value, rule });
            }
        }
        Ok(())
    }

    /// Bytes that [`Flows`] take for each sample.
    pub fn bytes(&self) -> usize {
        8 * (8 * self.modes() + 2 * self.lines() + 2 * self.area())
    }
}

/// A stage of a scheme with two registers: h ← N(w) + βh, then w ← ((1 + aL) w + γh)/(1 − bL).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// β. Where it is 0, what h was does not matter.
    pub beta: f64,
    /// γ.
    pub gamma: f64,
    /// a, of what is known.
    pub ahead: f64,
    /// b, of what is solved for.
    pub behind: f64,
}

/// The equation on a device: its tables and the matrices of the transforms.
#[derive(Debug)]
pub struct Vorticity {
    device: Device,
    grid: Grid,
    /// L of each mode.
    linear: Array,
    /// Coefficients of f.
    forcing: Option<Array>,
    /// From modes to points along x and y, and back along y and x.
    synthesis: [Matrix; 2],
    analysis: [Matrix; 2],
}

/// Samples that move together, and the memory for it.
#[derive(Debug)]
pub struct Flows {
    samples: usize,
    /// `[sample, k_y, k_x, re | im]`
    vorticity: Array,
    /// h, the same.
    slope: Array,
    /// Coefficients of two fields.
    pairs: Array,
    /// Two fields at the points of x.
    lines: Array,
    /// Two fields at all points.
    values: Array,
}

impl Flows {
    /// The samples with the coefficients `vorticity`, `[sample, k_y, k_x, re | im]`.
    ///
    /// # Errors
    /// Where these are not whole samples, or none, or the device has no room.
    pub fn new(device: &Device, grid: &Grid, vorticity: &[f64]) -> Result<Self> {
        grid.check()?;
        let unit = 2 * grid.modes();
        if !vorticity.len().is_multiple_of(unit) {
            let what = "vorticity [sample, k_y, k_x, re | im]";
            return Err(KernelError::NotAMultiple { what, unit, got: vorticity.len() });
        }
        let samples = vorticity.len() / unit;
        at_least_one("samples", samples)?;
        let zeros = |numbers: usize| Array::zeros(device, samples * numbers);
        Ok(Self {
            samples,
            slope: zeros(unit)?,
            pairs: zeros(2 * unit)?,
            lines: zeros(2 * grid.lines())?,
            values: zeros(2 * grid.area())?,
            vorticity: upload(device, vorticity)?,
        })
    }

    /// Samples.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// The same number of other samples.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn put(&mut self, device: &Device, vorticity: &[f64]) -> Result<()> {
        expect("vorticity [sample, k_y, k_x, re | im]", vorticity.len(), self.vorticity.len())?;
        self.vorticity = upload(device, vorticity)?;
        Ok(())
    }

    /// Their coefficients.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn get(&mut self, vorticity: &mut [f64]) -> Result<()> {
        expect("vorticity [sample, k_y, k_x, re | im]", vorticity.len(), self.vorticity.len())?;
        self.vorticity.download(vorticity)
    }
}

impl Vorticity {
    /// `linear`: L of each mode, a number that is real; `forcing`: the coefficients of f, `[k_y, k_x, re | im]`, or nothing.
    ///
    /// # Errors
    /// Where the lengths disagree, the grid holds fewer modes, or the device has no room.
    pub fn new(device: &Device, grid: Grid, linear: &[f64], forcing: &[f64]) -> Result<Self> {
        grid.check()?;
        expect("linear part [k_y, k_x]", linear.len(), grid.modes())?;
        if !forcing.is_empty() {
            expect("forcing [k_y, k_x, re | im]", forcing.len(), 2 * grid.modes())?;
        }
        let (n, width, half) = (grid.points, 2 * grid.width(), 2 * (grid.largest + 1));
        let matrix = |rows: usize, cols: usize, entry: &dyn Fn(usize, usize) -> f64| {
            let values: Vec<f64> = (0..rows * cols).map(|i| entry(i / cols, i % cols)).collect();
            Matrix::of(rows, cols, upload(device, &values)?)
        };
        let (turns, scale) = (turns(n), 1.0 / n as f64);
        // e^{2πi kx/n} as a real matrix [re | im of the value, re | im of the coefficient]; rows (part, x), columns (k, part).
        let along_x = |row: usize, column: usize| {
            let (part, x, k) = (row / n, row % n, column / 2);
            // A negative mode is one of the points' period.
            let k = if k <= grid.largest { k } else { n + k - grid.width() };
            let [cos, sin] = turns[k * x % n];
            match (part, column % 2) {
                (0, 0) | (1, 1) => cos,
                (0, _) => -sin,
                _ => sin,
            }
        };
        // The real part of the same, rows y and columns (k, part).
        let along_y = |y: usize, column: usize| {
            let [cos, sin] = turns[column / 2 * y % n];
            if column.is_multiple_of(2) { cos } else { -sin }
        };
        // A mode k > 0 stands for −k too.
        let both = |y: usize, column: usize| if column < 2 { 1.0 } else { 2.0 } * along_y(y, column);
        Ok(Self {
            synthesis: [matrix(2 * n, width, &along_x)?, matrix(n, half, &both)?],
            analysis: [
                matrix(half, n, &|row, y| scale * along_y(y, row))?,
                matrix(width, 2 * n, &|row, x| scale * along_x(x, row))?,
            ],
            linear: upload(device, linear)?,
            forcing: (!forcing.is_empty()).then(|| upload(device, forcing)).transpose()?,
            device: device.clone(),
            grid,
        })
    }

    /// Where the equation is.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Its grid.
    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// One step of the samples, by these stages.
    ///
    /// # Errors
    /// Where the samples are of another grid, or the device fails.
    pub fn step(&mut self, stages: &[Stage], flows: &mut Flows) -> Result<()> {
        let (grid, samples) = (self.grid, flows.samples);
        expect("vorticity [sample, k_y, k_x, re | im]", flows.vorticity.len(), 2 * samples * grid.modes())?;
        expect("values [sample, field, y, x]", flows.values.len(), 2 * samples * grid.area())?;
        let (rows, columns) = ((2 * samples * (grid.largest + 1), 1), (2 * samples, grid.points));
        let device = &self.device;
        for stage in stages {
            self.velocity(flows)?;
            let Flows { pairs, lines, values, .. } = &mut *flows;
            let [along_x, along_y] = &mut self.synthesis;
            mode_product(device, along_x, rows, pairs, lines, false)?;
            mode_product(device, along_y, columns, lines, values, false)?;
            match device {
                Device::Gpu(gpu) => cuda::products(gpu, grid.area(), values)?,
                Device::Cpu => reference::products(grid.area(), values.host_mut()),
            }
            let [along_y, along_x] = &mut self.analysis;
            mode_product(device, along_y, columns, values, lines, false)?;
            mode_product(device, along_x, rows, lines, pairs, false)?;
            match device {
                Device::Gpu(gpu) => {
                    cuda::stage(gpu, &grid, stage, (&mut self.linear, self.forcing.as_mut()), flows)?;
                }
                Device::Cpu => {
                    let Flows { pairs, slope, vorticity, .. } = &mut *flows;
                    let tables = (self.linear.host(), self.forcing.as_mut().map(Buffer::host));
                    let registers = (slope.host_mut(), vorticity.host_mut());
                    reference::stage(&grid, stage, tables, pairs.host(), registers);
                }
            }
        }
        Ok(())
    }

    /// The coefficients of both velocities.
    fn velocity(&self, flows: &mut Flows) -> Result<()> {
        let Flows { vorticity, pairs, .. } = flows;
        if let Device::Gpu(gpu) = &self.device {
            return cuda::velocity(gpu, &self.grid, vorticity, pairs);
        }
        reference::velocity(&self.grid, vorticity.host(), pairs.host_out());
        Ok(())
    }
}

/// Numbers on the device, and there alone.
fn upload(device: &Device, values: &[f64]) -> Result<Array> {
    match device {
        Device::Gpu(gpu) => Array::upload(gpu, values),
        Device::Cpu => Array::from_vec(device, values.to_vec()),
    }
}

/// cos and sin of 2πr/n for r < n; those of r and n − r are even and odd to the bit, so that coefficients of k and −k are as well.
fn turns(n: usize) -> Vec<[f64; 2]> {
    let turn = |r: usize| {
        let (near, sign) = if 2 * r <= n { (r, 1.0) } else { (n - r, -1.0) };
        let (sin, cos) = (TAU * near as f64 / n as f64).sin_cos();
        [cos, sign * sin]
    };
    (0..n).map(turn).collect()
}
