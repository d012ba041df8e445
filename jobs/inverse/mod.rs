//! Volumes from linear measurements y = A x + noise that do not tell them alone: regularised solvers and samplers, on slabs of slices.
//!
//! A workload brings an [`Operator`]; what is known beforehand (total variation, a denoiser) and how the two are brought together lies here.

pub mod diffusion;
pub mod lsqr;
pub mod place;
pub mod price;
pub mod samplers;
pub mod setting;
pub mod store;
pub mod tv;
pub mod vectors;
pub mod weighted;

use std::fmt::Debug;

use convoke_cluster::{Fields, Result, Results};
use convoke_kernels::Buffer;

use place::Place;

/// Stream of random numbers of the first vector of [`norm`].
const START: u64 = 0x706f_7765_7221; // "power!"

/// A linear operator A from volumes `[slice, y, x]`, of which [`Place::slices`] are here, to measurements, of which some are here.
///
/// Measurements are real numbers (complex ones are pairs) in the operator's own order; a value that several ranks hold counts once in
/// [`Operator::dot`]. All functions but the lengths are collective over every rank of the job.
pub trait Operator: Debug {
    /// Where the volume lies.
    fn place(&self) -> &Place;

    /// Measured values that this rank holds.
    fn measured_len(&self) -> usize;

    /// q = A v. Values of `v` that A does not see (outside a mask) may be set to 0.
    ///
    /// # Errors
    /// Of kernels and of the exchange.
    fn forward(&mut self, v: &mut Buffer<f32>, q: &mut Buffer<f32>) -> Result<()>;

    /// v = Aᵀ q, the exact adjoint. `q` may be used as room for work.
    ///
    /// # Errors
    /// Of kernels and of the exchange.
    fn back(&mut self, q: &mut Buffer<f32>, v: &mut Buffer<f32>) -> Result<()>;

    /// Σ a b of all measured values, each once, in f64.
    ///
    /// # Errors
    /// Of the exchange.
    fn dot(&self, a: &[f32], b: &[f32]) -> Result<f64>;

    /// Σ a² of measured values, where they are.
    ///
    /// # Errors
    /// Of the exchange and of the device.
    fn norm2(&self, a: &mut Buffer<f32>) -> Result<f64> {
        norm2(a, |a| self.dot(a, a))
    }

    /// Keeps measured values, such as residuals, in a checkpoint.
    fn keep<'a>(&self, name: &str, q: &'a mut Buffer<f32>, fields: &mut Fields<'a>);

    /// Fills in the values of `q` that were not in the checkpoint because other ranks own them.
    ///
    /// # Errors
    /// Of the exchange.
    fn restored(&self, _q: &mut Buffer<f32>) -> Result<()> {
        Ok(())
    }

    /// Device on which it works, where its buffers should be.
    fn device(&self) -> &convoke_kernels::Device;

    /// A vector of zeros where those of a solver should lie: on the device, or in files where there is no memory for them.
    ///
    /// # Errors
    /// Where there is no room.
    fn zeros(&self, len: usize) -> Result<Buffer<f32>> {
        Ok(Buffer::zeros(self.device(), len)?)
    }

    /// Whether that is a GPU, and A and Aᵀ are there.
    fn is_on_gpu(&self) -> bool {
        self.device().is_gpu()
    }

    /// Itself, where its measurements come in views that may be chosen.
    fn views(&mut self) -> Option<&mut dyn Views> {
        None
    }
}

/// Measurements in views, of which some are made: the operator is that of the chosen ones.
pub trait Views: Operator {
    /// Where all of them lie (those that cannot be made as well), unit and meaning, for people.
    fn places(&self) -> (Vec<f64>, &'static str, &'static str);

    /// From here on the operator is that of these views, in their order; their data, this rank's part.
    ///
    /// # Errors
    /// Of the device.
    fn choose(&mut self, views: &[usize]) -> Result<Vec<f32>>;

    /// What a view would measure of some volumes: the same number of values for each of this rank's slices, also where other ranks hold these slices.
    ///
    /// # Errors
    /// Of kernels.
    fn look(&mut self, view: usize, volumes: &mut [Buffer<f32>]) -> Result<Vec<Vec<f32>>>;
}

/// A reconstruction under way: what a solver holds between its steps.
pub trait Solver: Debug {
    /// Refuses data that cannot be right; what it needs for that stays for the first step. Collective.
    ///
    /// # Errors
    /// Of the data, and of the operator.
    fn check(&mut self, _operator: &mut dyn Operator) -> Result<()> {
        Ok(())
    }

    /// One iteration, or one level of noise. Collective.
    ///
    /// # Errors
    /// Of the operator.
    fn step(&mut self, operator: &mut dyn Operator, number: u64) -> Result<Report>;

    /// The volume as it is now, this rank's slices.
    fn image(&mut self) -> &mut Buffer<f32>;

    /// Everything that a resumed run needs.
    fn fields<'a>(&'a mut self, operator: &dyn Operator, fields: &mut Fields<'a>);

    /// After the fields were loaded. Collective.
    ///
    /// # Errors
    /// Of the exchange.
    fn restored(&mut self, _operator: &mut dyn Operator) -> Result<()> {
        Ok(())
    }

    /// Volumes that belong to the image, in its unit, this rank's slices: names, what they are, values.
    fn more(&mut self) -> Vec<(&'static str, &'static str, Vec<f32>)> {
        Vec::new()
    }

    /// Adds series and figures to the results. Collective.
    ///
    /// # Errors
    /// Of the operator, and of writing.
    fn finish(&mut self, _operator: &mut dyn Operator, _out: &mut Results) -> Result<()> {
        Ok(())
    }
}

/// What a step reports.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// No further step is wanted.
    pub done: bool,
    /// Names and values for the log.
    pub metrics: Vec<(&'static str, f64)>,
}

/// ‖A‖ from `iterations` power iterations on AᵀA: from below, to some 1e-3 after twenty. Collective.
///
/// # Errors
/// Of the operator.
pub fn norm(operator: &mut dyn Operator, iterations: usize) -> Result<f64> {
    let mut q = operator.zeros(operator.measured_len())?;
    norm_with(operator, iterations, &mut q)
}

/// The same with room for what is measured.
fn norm_with(operator: &mut dyn Operator, iterations: usize, q: &mut Buffer<f32>) -> Result<f64> {
    let place = operator.place().clone();
    let mut v = operator.zeros(place.len())?;
    // Positive, as the vector that belongs to the norm of a projector is.
    v.host_mut().iter_mut().zip(place.normal(0, START)).for_each(|(v, n)| *v = 1.0 + 0.1 * n);
    let mut norm = 0.0;
    for _ in 0..iterations {
        operator.forward(&mut v, q)?;
        let (av2, v2) = (norm2(q, |q| operator.dot(q, q))?, norm2(&mut v, |v| place.dot(v, v))?);
        norm = if v2 > 0.0 { (av2 / v2).sqrt() } else { 0.0 };
        operator.back(q, &mut v)?;
        let length = norm2(&mut v, |v| place.dot(v, v))?.sqrt();
        if length == 0.0 {
            break;
        }
        let scale = (1.0 / length) as f32;
        vectors::map(v.host_mut(), |v| *v *= scale);
    }
    Ok(norm)
}

/// ‖v‖² by a product of both kinds.
fn norm2(v: &mut Buffer<f32>, dot: impl Fn(&[f32]) -> Result<f64>) -> Result<f64> {
    dot(v.host())
}
