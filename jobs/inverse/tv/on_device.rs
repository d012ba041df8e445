//! A step of alternating directions on a GPU: that of `admm.rs` in the operations of `kernels::variation`.
//!
//! Volumes and fields of differences stay there. Over the bus go sums of slices and, where there are several slabs, the slices at their ends.

use convoke_cluster::Result;
use convoke_kernels::variation::{Slab, bound};
use convoke_kernels::{Buffer, Device, Slices};

use super::admm::Admm;
use super::{Done, Kind, Problem};
use crate::inverse::Operator;
use crate::inverse::place::Place;

type Array = Buffer<f32>;

/// What is needed here alone.
#[derive(Debug)]
pub(super) struct Beside {
    /// The image before a step.
    old: Array,
    /// 1 or 0, one slice.
    mask: Option<Array>,
}

/// A slab of a volume on a device.
struct World {
    device: Device,
    place: Place,
    slab: Slab,
}

/// Which slice.
#[derive(Clone, Copy)]
enum Edge {
    /// The first one of the slab behind.
    Behind,
    /// The last one of the slab before.
    Before,
    /// Of a field, the differences along z of that one.
    DifferencesBefore,
}

impl World {
    /// A slice of a neighbour's `v`, none at the ends of the volume. Collective.
    fn edge(&self, v: &mut Array, which: Edge) -> Result<Option<Array>> {
        if self.place.comm.size() == 1 {
            return Ok(None);
        }
        let mut mine = Vec::new();
        if !self.place.is_empty() {
            let mut slice = Buffer::zeros(&self.device, self.place.size())?;
            match which {
                Edge::Behind => self.slab.slice(&self.device, v, false, &mut slice)?,
                Edge::Before => self.slab.slice(&self.device, v, true, &mut slice)?,
                Edge::DifferencesBefore => self.slab.last_differences(&self.device, v, &mut slice)?,
            }
            slice.sync()?;
            mine = slice.into_vec();
        }
        let got = self.place.neighbour(&mine, matches!(which, Edge::Behind))?;
        if got.is_empty() { Ok(None) } else { Ok(Some(Buffer::from_vec(&self.device, got)?)) }
    }

    /// Sums of the slices by `of`, added. Collective.
    fn sum(&self, of: impl FnOnce(&Slices) -> convoke_kernels::Result<Vec<f64>>) -> Result<f64> {
        let slices = self.place.slices.len();
        let sums = if slices == 0 { Vec::new() } else { of(&Slices::new(&self.device, slices)?)? };
        self.place.sum(&sums)
    }

    /// An operation on whole volumes; none where there is no slice.
    fn all(&self, of: impl FnOnce(&Slices) -> convoke_kernels::Result<()>) -> Result<()> {
        if !self.place.is_empty() {
            of(&Slices::new(&self.device, 1)?)?;
        }
        Ok(())
    }
}

/// One step; the image's dual fields are those of the processor.
pub(super) fn step(admm: &mut Admm, problem: &mut Problem, operator: &mut dyn Operator) -> Result<Done> {
    let (device, place) = (operator.device().clone(), operator.place().clone());
    let Problem { params, y, q, x, scale, .. } = problem;
    let slab = Slab { slices: place.slices.len(), points: place.points, axes: params.along.axes() };
    let here = !place.is_empty();
    if admm.beside.is_none() {
        let mask = params.mask.clone().map(|mask| Buffer::from_vec(&device, mask)).transpose()?;
        admm.beside = Some(Beside { old: Buffer::zeros(&device, place.len())?, mask });
    }
    let Admm { w, room, bound: dual, r, p, h, beside } = admm;
    let Beside { old, mask } = beside.as_mut().expect("just made");
    let world = World { device: device.clone(), place, slab };
    let (scale, rho) = (*scale as f32, params.rho() as f32);
    let radius = (params.weight / params.rho()) as f32;
    let mut behind = world.edge(x, Edge::Behind)?;
    if here {
        slab.dual(&device, (radius, params.kind == Kind::Isotropic), (x, behind.as_mut()), w, room)?;
    }
    // r = Aᵀ(y − A x)/‖A‖² + ρ∇ᵀ(w_old − 2 w), and the same for x ≥ 0
    operator.forward(x, q)?;
    if !q.is_empty() {
        Slices::new(&device, 1)?.axpy(&[-1.0], y, q)?;
    }
    let residual2 = operator.norm2(q)?;
    operator.back(q, r)?;
    let mut before = world.edge(room, Edge::DifferencesBefore)?;
    if here {
        slab.transposed(&device, [rho, -scale], (room, before.as_mut()), mask.as_mut(), r)?;
        if params.non_negative {
            bound(&device, rho, x, dual, r)?;
        }
    }
    world.all(|all| all.copy(r, p))?;
    world.all(|all| all.copy(x, old))?;
    let mut gamma = world.sum(|slices| slices.norm2(r))?;
    let diagonal = if params.non_negative { rho } else { 0.0 };
    for _ in 0..params.inner {
        // h = (AᵀA/‖A‖² + ρ∇ᵀ∇ + ρ) p
        operator.forward(p, q)?;
        operator.back(q, h)?;
        let (mut before, mut behind) = (world.edge(p, Edge::Before)?, world.edge(p, Edge::Behind)?);
        if here {
            let fields = (&mut *p, before.as_mut(), behind.as_mut());
            slab.normal(&device, [rho, scale, diagonal], fields, mask.as_mut(), h)?;
        }
        let along = world.sum(|slices| slices.dot(p, h))?;
        if along <= 0.0 || gamma <= 0.0 {
            break;
        }
        let a = gamma / along;
        world.all(|all| all.axpy(&[a], p, x))?;
        world.all(|all| all.axpy(&[-a], h, r))?;
        let last = std::mem::replace(&mut gamma, world.sum(|slices| slices.norm2(r))?);
        world.all(|all| all.xpby(r, &[gamma / last], p))?;
    }
    world.all(|all| all.subtract(x, old, h))?;
    let step2 = world.sum(|slices| slices.norm2(h))?;
    Ok(Done { residual2, step2, image2: world.sum(|slices| slices.norm2(x))? })
}
