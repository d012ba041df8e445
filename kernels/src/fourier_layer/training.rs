//! What is around the layers in a step of training: the loss with its derivative, and the step of the parameters.

use super::{Array, Scratch, at_least_one, below_2_31, cuda, expect, narrow, reference, wide};
use crate::{Buffer, Device, Result};

/// The relative L² error of samples, in the units of the data: ‖y d + m − t‖/‖t‖ with means m and deviations d of each channel, or of each
/// channel and point.
#[derive(Debug)]
pub struct RelativeL2 {
    device: Device,
    /// Numbers of a sample.
    size: usize,
    mean: Array,
    deviation: Array,
    /// Pieces of sums, and norms.
    scratch: [Scratch; 2],
}

impl RelativeL2 {
    /// Of samples of so many numbers; `mean` and `deviation` are each as long as channels, or as a sample.
    ///
    /// # Errors
    /// For lengths that are neither, or a device without room.
    pub fn new(device: &Device, size: usize, mean: Vec<f32>, deviation: Vec<f32>) -> Result<Self> {
        at_least_one("numbers of a sample", size)?;
        at_least_one("means", mean.len())?;
        expect("deviations", deviation.len(), mean.len())?;
        expect("numbers of a sample, in equal parts for each mean,", size, size / mean.len() * mean.len())?;
        let [mean, deviation] = [mean, deviation].map(|values| Buffer::from_vec(device, values));
        Ok(Self { device: device.clone(), size, mean: mean?, deviation: deviation?, scratch: Default::default() })
    }

    /// The error of each sample, `output` and `target` `[samples, size]`; `slope` becomes `scale` times its derivative by the output.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn slopes(
        &mut self,
        samples: usize,
        scale: f32,
        output: &mut Array,
        target: &mut Array,
        slope: &mut Array,
    ) -> Result<Vec<f64>> {
        at_least_one("samples", samples)?;
        for (what, array) in [("output", &*output), ("target", &*target), ("slope", &*slope)] {
            expect(what, array.len(), samples * self.size)?;
        }
        below_2_31("numbers of all samples", output.len())?;
        let each = self.size / self.mean.len();
        let norms = if let Device::Gpu(gpu) = &self.device {
            let normaliser = (&mut self.mean, &mut self.deviation);
            cuda::relative_l2(
                gpu,
                (samples, self.size, each),
                scale,
                normaliser,
                &mut self.scratch,
                (output, target),
                slope,
            )?
        } else {
            let (output, target) = (wide(output.host()), wide(target.host()));
            let normaliser = (wide(self.mean.host()), wide(self.deviation.host()));
            let (norms, slopes) = reference::relative_l2(
                (&output, &target),
                (&normaliser.0, &normaliser.1),
                (samples, each),
                f64::from(scale),
            );
            narrow(&slopes, slope.host_out());
            norms
        };
        Ok(norms.iter().map(|[error, norm]| error / norm).collect())
    }
}

/// A step of AdamW (Loshchilov and Hutter 2019).
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Of moments.
    pub beta: [f64; 2],
    /// Under the root.
    pub epsilon: f64,
    /// Learning rate.
    pub rate: f64,
    /// Decay of weights.
    pub decay: f64,
    /// Number of the step, from 0.
    pub step: u64,
}

impl AdamW {
    /// What parameters are multiplied with, the rate over the first moment's bias, one over the root of the second one's.
    pub(super) fn factors(&self) -> [f64; 3] {
        let steps = i32::try_from(self.step + 1).unwrap_or(i32::MAX);
        let [first, second] = self.beta.map(|beta| 1.0 - beta.powi(steps));
        [1.0 - self.rate * self.decay, self.rate / first, second.sqrt().recip()]
    }
}

/// One step of all parameters, with their gradient and its first and second moments.
///
/// # Errors
/// Where the lengths disagree, or the device fails.
pub fn adamw(
    device: &Device,
    how: AdamW,
    gradient: &mut Array,
    moments: [&mut Array; 2],
    parameters: &mut Array,
) -> Result<()> {
    let [first, second] = moments;
    for (what, array) in [("gradient", &*gradient), ("first moments", &*first), ("second moments", &*second)] {
        expect(what, array.len(), parameters.len())?;
    }
    if let Device::Gpu(gpu) = device {
        return cuda::adamw(gpu, how, gradient, [first, second], parameters);
    }
    let [keep, size, root] = how.factors();
    let [b1, b2] = how.beta;
    let both = first.host_mut().iter_mut().zip(second.host_mut());
    for ((p, g), (m, v)) in parameters.host_mut().iter_mut().zip(gradient.host()).zip(both) {
        let g = f64::from(*g);
        let new = [b1 * f64::from(*m) + (1.0 - b1) * g, b2 * f64::from(*v) + (1.0 - b2) * g * g];
        *p = (keep * f64::from(*p) - size * new[0] / (new[1].sqrt() * root + how.epsilon)) as f32;
        [*m, *v] = new.map(|v| v as f32);
    }
    Ok(())
}
