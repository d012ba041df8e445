//! Flows on a GPU: many samples side by side, which stay there for all steps of a call.

use bytemuck::cast_slice;
use convoke_kernels::vorticity::{Flows, Grid, Stage, Vorticity};
use convoke_kernels::{Device, Result};

use super::modes::Modes;
use super::navier_stokes::Flow;

/// Most points along an axis. Transforms are products with matrices: 90 MB here, of which the host holds one at a time while they are made.
const MOST_POINTS: usize = 2048;
/// Bytes on the device for samples that move at once.
const AT_ONCE: usize = 2 << 30;

/// Why the processor moves flows of these modes also where there is a GPU. `shared`: ranks share each of them.
pub fn unsuited(modes: &Modes, shared: bool) -> Option<String> {
    if shared {
        return Some("ranks share each flow; a larger problem.batch, or fewer ranks, let it serve".to_owned());
    }
    (modes.n > MOST_POINTS).then(|| format!("it takes at most {MOST_POINTS} points along an axis, not {}", modes.n))
}

fn grid(modes: &Modes) -> Grid {
    Grid { points: modes.n, largest: modes.m, unit: modes.kappa(1) }
}

/// An equation with its scheme on a device, and memory for samples.
#[derive(Debug)]
pub struct OnDevice {
    vorticity: Vorticity,
    stages: Vec<Stage>,
    /// Of the last samples.
    flows: Option<Flows>,
}

impl OnDevice {
    /// A flow that [`unsuited`] has nothing against.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(device: &Device, flow: &Flow) -> Result<Self> {
        let vorticity = Vorticity::new(device, grid(&flow.modes), flow.linear(), cast_slice(&flow.forcing))?;
        Ok(Self { vorticity, stages: flow.scheme.two_registers(flow.step()), flows: None })
    }

    /// The samples, each with the coefficients of its vorticity as [`Flow::advance`] has them, after `steps` steps. Bits of a sample do not depend
    /// on the others.
    ///
    /// # Errors
    /// Where these are not whole samples, or the device has no room or fails.
    pub fn advance(&mut self, states: &mut [f64], steps: u64) -> Result<()> {
        let (device, grid) = (self.vorticity.device().clone(), *self.vorticity.grid());
        let samples = (AT_ONCE / grid.bytes()).max(1);
        for states in states.chunks_mut(samples * 2 * grid.modes()) {
            // Memory of another number of samples is given back first.
            let as_many = |flows: &Flows| flows.samples() * 2 * grid.modes() == states.len();
            let mut flows = match self.flows.take().filter(as_many) {
                Some(mut flows) => {
                    flows.put(&device, states)?;
                    flows
                }
                None => Flows::new(&device, &grid, states)?,
            };
            for _ in 0..steps {
                self.vorticity.step(&self.stages, &mut flows)?;
            }
            flows.get(states)?;
            self.flows = Some(flows);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Scheme, given};
    use num_complex::Complex64;

    /// Schemes with two registers through matrices are the processor's code through FFTs to 1e-12 after some steps: each of them, with a force and
    /// drag and without, on even and odd grids; samples do not meet.
    #[test]
    fn flows_move_as_on_the_processor_to_1e_12() {
        for (n, scheme, forced) in [
            (32, Scheme::Rk4Cn, true),
            (27, Scheme::Rk3Cn, false),
            (24, Scheme::Rk2Cn, true),
            (25, Scheme::ImexCn, false),
            (4, Scheme::Rk4Cn, false),
        ] {
            let modes = Modes::new(n, 5.0);
            let read = |text: &str| given::coefficients("w", text, &modes, ["n", "length"]).expect("a function");
            let waves = |a: f64| format!("({a})*cos(2*pi*x/5) + sin(2*pi*(x + y)/5) + ({a})^2*cos(2*pi*y/5 + 1)");
            let samples: Vec<Vec<Complex64>> = [0.5, -2.0, 1.0].iter().map(|a| read(&waves(*a))).collect();
            let forcing = if forced { read("2*cos(2*pi*y/5) - sin(2*pi*x/5)") } else { Vec::new() };
            let flow = Flow::new(modes, (1e-2, if forced { 0.1 } else { 0.0 }), forcing, (scheme, 0.02), false);
            let mut states: Vec<f64> = cast_slice(&samples.concat()).to_vec();
            let begun = states.clone();
            let mut device = OnDevice::new(&Device::cpu(), &flow).expect("it has room");
            device.advance(&mut states, 7).expect("it moves");
            device.advance(&mut states, 5).expect("it moves");
            let moved: &[Complex64] = cast_slice(&states);
            for (mut w, moved) in samples.into_iter().zip(moved.chunks_exact(flow.modes.len())) {
                flow.advance(&mut w, 12, &mut flow.mover());
                let largest = w.iter().fold(0.0, |m: f64, w| m.max(w.norm()));
                let off = w.iter().zip(moved).fold(0.0, |m: f64, (a, b)| m.max((a - b).norm()));
                assert!(off <= 1e-12 * largest, "{n} {scheme:?}: {off:e} of {largest}");
            }
            assert!(states.iter().zip(&begun).any(|(a, b)| (a - b).abs() > 1e-3), "{n} {scheme:?}: nothing moves");
        }
    }

    #[test]
    fn flows_that_a_gpu_does_not_take_are_told() {
        let said = |n: usize, shared: bool| unsuited(&Modes::new(n, 1.0), shared);
        assert_eq!(said(2048, false), None);
        assert!(said(2049, false).is_some_and(|reason| reason.contains("2048 points")));
        assert!(said(64, true).is_some_and(|reason| reason.contains("problem.batch")));
    }
}
