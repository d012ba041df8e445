//! Data as the samplers see them: of an operator of norm 1, and of images with the denoiser's values.

use convoke_cluster::Result;
use convoke_kernels::Buffer;

use crate::inverse::place::Place;
use crate::inverse::{Operator, norm};

/// Power iterations that the norm comes from: it is known to a percent then, and the same for the same operator.
pub const POWER: u64 = 20;

/// How far a volume is from the data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Residual {
    /// ‖A x − y‖/‖y‖.
    pub relative: f64,
    /// ‖A x − y‖/(√M σ_y) of M data; 0 where σ_y is.
    pub over_noise: f64,
}

/// Ã = A/‖A‖ and ỹ = y/(s ‖A‖), for volumes s x with x between 0 and 1.
#[derive(Debug)]
pub struct Data {
    /// s: a value of the volume for each 1 of the images.
    pub scale: f64,
    /// ‖A‖².
    pub norm2: f64,
    /// Ãᵀỹ, this rank's slices.
    pub back: Vec<f32>,
    /// Variance of the noise of ỹ.
    pub noise: f64,
    /// All data, M.
    pub count: f64,
    /// ‖ỹ‖².
    pub squares: f64,
    /// Where volumes lie.
    pub place: Place,
    deviation: f64,
    y: Vec<f32>,
    v: Buffer<f32>,
    q: Buffer<f32>,
}

impl Data {
    /// Of data y with noise of a standard deviation; before [`Data::prepare`] nothing else is known. No communication.
    ///
    /// # Errors
    /// Of the device.
    pub fn new(operator: &dyn Operator, y: Vec<f32>, (scale, deviation): (f64, f64)) -> Result<Self> {
        let (len, device) = (operator.place().len(), operator.device());
        let (v, q) = (Buffer::zeros(device, len)?, Buffer::zeros(device, y.len())?);
        let (back, place) = (Vec::new(), operator.place().clone());
        Ok(Self { scale, deviation, norm2: 0.0, back, noise: 0.0, count: 0.0, squares: 0.0, place, y, v, q })
    }

    /// The norm, and what follows from it, unless they are known. Collective.
    ///
    /// # Errors
    /// Of the operator and of the exchange.
    pub fn prepare(&mut self, operator: &mut dyn Operator) -> Result<()> {
        if self.norm2 > 0.0 {
            return Ok(());
        }
        let norm = norm(operator, POWER as usize)?;
        // An operator that measures nothing stays one.
        self.norm2 = if norm > 0.0 { norm * norm } else { 1.0 };
        self.q.host_mut().copy_from_slice(&self.y);
        operator.back(&mut self.q, &mut self.v)?;
        let factor = 1.0 / (self.norm2 * self.scale);
        self.back = self.v.host().iter().map(|v| (f64::from(*v) * factor) as f32).collect();
        let units = self.norm2 * self.scale * self.scale;
        self.noise = self.deviation * self.deviation / units;
        self.squares = operator.dot(&self.y, &self.y)? / units;
        let ones = vec![1.0; self.y.len()];
        self.count = operator.dot(&ones, &ones)?;
        Ok(())
    }

    /// ‖Ã v‖². Collective.
    ///
    /// # Errors
    /// Of the operator and of the exchange.
    pub fn image(&mut self, operator: &mut dyn Operator, v: &[f32]) -> Result<f64> {
        self.v.host_mut().copy_from_slice(v);
        operator.forward(&mut self.v, &mut self.q)?;
        let q = self.q.host();
        Ok(operator.dot(q, q)? / self.norm2)
    }

    /// The same with ỹ + ε Ã v as data. Collective.
    ///
    /// # Errors
    /// Of the operator and of the exchange.
    pub fn moved(&mut self, operator: &mut dyn Operator, v: &[f32], epsilon: f64) -> Result<Self> {
        self.v.host_mut().copy_from_slice(v);
        operator.forward(&mut self.v, &mut self.q)?;
        let factor = (epsilon * self.scale) as f32;
        let y = self.q.host().iter().zip(&self.y).map(|(q, y)| y + factor * q).collect();
        let mut moved = Self::new(operator, y, (self.scale, self.deviation))?;
        moved.prepare(operator)?;
        Ok(moved)
    }

    /// The largest value of the images is at least this, whatever they are: ‖ỹ‖ ≤ ‖x‖ ≤ √N max |x|.
    pub fn least_maximum(&self, voxels: usize) -> f64 {
        (self.squares / voxels.max(1) as f64).sqrt()
    }

    /// ÃᵀÃ v. Collective.
    ///
    /// # Errors
    /// Of the operator.
    pub fn normal(&mut self, operator: &mut dyn Operator, v: &[f32]) -> Result<Vec<f32>> {
        self.v.host_mut().copy_from_slice(v);
        operator.forward(&mut self.v, &mut self.q)?;
        operator.back(&mut self.q, &mut self.v)?;
        let factor = (1.0 / self.norm2) as f32;
        Ok(self.v.host().iter().map(|v| factor * v).collect())
    }

    /// How far x is from the data. Collective.
    ///
    /// # Errors
    /// Of the operator and of the exchange.
    pub fn residual(&mut self, operator: &mut dyn Operator, x: &[f32]) -> Result<Residual> {
        self.v.host_mut().copy_from_slice(x);
        operator.forward(&mut self.v, &mut self.q)?;
        let (scale, units) = (self.scale as f32, self.norm2 * self.scale * self.scale);
        let off: Vec<f32> = self.q.host().iter().zip(&self.y).map(|(q, y)| scale * q - y).collect();
        let squares = operator.dot(&off, &off)? / units;
        let relative = if self.squares > 0.0 { (squares / self.squares).sqrt() } else { 0.0 };
        let noise = self.noise * self.count;
        Ok(Residual { relative, over_noise: if noise > 0.0 { (squares / noise).sqrt() } else { 0.0 } })
    }
}
