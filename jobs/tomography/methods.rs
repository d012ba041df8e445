//! The reconstruction algorithms, on the slices and angles that one rank holds.
//!
//! Slices are independent problems: step lengths, residuals and stopping are per slice, so the
//! result does not depend on how slices are spread over ranks or windows. Ranks that share
//! slices hold different angles; [`Share`] adds up what they back-project.

use std::ops::Range;

use convoke_cluster::{Comm, Error, Fields, Region, Result};
use convoke_kernels::{Buffer, Device, ParallelGeometry, Projector, RampFilter, RampParams, Slices};

use super::spec::{Algorithm, MethodSpec};

/// Weights below this belong to rays or voxels that miss the object.
const TINY: f32 = 1e-6;

/// What a rank holds of a window.
#[derive(Debug, Clone)]
pub struct Share {
    /// Slices here.
    pub n_slices: usize,
    /// Columns of a projection.
    pub n_cols: usize,
    /// Side lengths of a slice.
    pub shape: [usize; 2],
    /// Ranks that hold other angles of the same slices.
    pub group: Comm,
    /// Where kernels run.
    pub device: Device,
}

impl Share {
    fn voxels(&self) -> usize {
        self.n_slices * self.shape[0] * self.shape[1]
    }

    fn zeros(&self, per_slice: usize) -> Result<Buffer<f32>> {
        Ok(Buffer::zeros(&self.device, self.n_slices * per_slice)?)
    }

    fn slices(&self) -> Result<Slices> {
        Ok(Slices::new(&self.device, self.n_slices.max(1))?)
    }

    /// Sums over the group what its ranks back-projected from their angles.
    fn reduce(&self, volume: &mut Buffer<f32>) -> Result<()> {
        if self.group.size() > 1 {
            self.group.all_sum(volume.host_mut())?;
        }
        Ok(())
    }

    fn reduce_scalars(&self, values: &mut [f64]) -> Result<()> {
        Ok(self.group.all_sum(values)?)
    }
}

/// Projections of some angles, with their projector.
#[derive(Debug)]
pub struct Views {
    /// `None` where this rank has none of the angles.
    pub projector: Option<Projector>,
    /// `[n_slices, n_angles, n_cols]`
    pub data: Buffer<f32>,
}

impl Views {
    /// out = A volume, of these angles.
    ///
    /// # Errors
    /// Kernel errors.
    pub fn forward(&self, volume: &mut Buffer<f32>, out: &mut Buffer<f32>) -> Result<()> {
        match &self.projector {
            Some(projector) if !volume.is_empty() => Ok(projector.forward(volume, out)?),
            _ => Ok(()),
        }
    }

    /// volume = Aᵀ sinogram, of all angles of the group. Collective over it.
    ///
    /// # Errors
    /// Kernel errors.
    pub fn back(&self, share: &Share, sinogram: &mut Buffer<f32>, volume: &mut Buffer<f32>) -> Result<()> {
        match &self.projector {
            Some(projector) if !volume.is_empty() => projector.back(sinogram, volume)?,
            _ => volume.host_mut().fill(0.0),
        }
        share.reduce(volume)
    }
}

/// Filtered back projection of all of a rank's slices.
///
/// `weights` are the angles' quadrature weights. Source: Kak and Slaney, Principles of
/// Computerized Tomographic Imaging (1988), chapter 3.
///
/// # Errors
/// Kernel errors.
pub fn fbp(
    share: &Share,
    mut views: Views,
    weights: &[f64],
    filter: RampParams,
    mask: Option<&[f32]>,
) -> Result<Vec<f32>> {
    let mut volume = share.zeros(share.shape[0] * share.shape[1])?;
    if let Some(projector) = views.projector.as_ref().filter(|_| share.n_slices > 0) {
        let pitch = projector.geometry().col_pitch;
        RampFilter::new(&share.device, filter)?.apply(projector.n_active(), &mut views.data)?;
        let weights: Vec<f32> = weights.iter().map(|w| (w * pitch) as f32).collect();
        projector.back_weighted(&weights, &mut views.data, &mut volume)?;
    }
    share.reduce(&mut volume)?;
    if let (Some(mask), true) = (mask, share.n_slices > 0) {
        share.slices()?.multiply(&mut Buffer::from_vec(&share.device, mask.to_vec())?, &mut volume)?;
    }
    Ok(volume.into_vec())
}

/// The projector of a geometry restricted to some angles.
///
/// # Errors
/// Kernel errors.
pub fn projector(
    device: &Device,
    all: &ParallelGeometry,
    angles: &[usize],
    method: &MethodSpec,
) -> Result<Option<Projector>> {
    if angles.is_empty() {
        return Ok(None);
    }
    let angles_rad = angles.iter().map(|i| all.angles_rad[*i]).collect();
    let geometry = ParallelGeometry { angles_rad, ..all.clone() };
    Ok(Some(Projector::new(device, geometry, method.footprint())?))
}

/// An iterative reconstruction of one window.
#[derive(Debug)]
pub struct Iteration {
    share: Share,
    ops: Slices,
    method: MethodSpec,
    subsets: Vec<Subset>,
    order: Vec<usize>,
    mask: Option<Buffer<f32>>,
    /// The image, `[n_slices, ny, nx]`.
    pub image: Buffer<f32>,
    correction: Buffer<f32>,
    /// Search direction of CGLS.
    direction: Option<Buffer<f32>>,
    /// Squared norm of the last gradient of CGLS, per slice.
    gradient2: Vec<f64>,
    /// 1 for slices that have reached the noise level.
    stopped: Vec<u64>,
    /// Squared norm of the measured projections, per slice.
    data2: Vec<f64>,
    /// Number of rays of a slice, all ranks together.
    rays: f64,
}

/// One subset of the angles.
#[derive(Debug)]
struct Subset {
    views: Views,
    /// Residual or modelled projections, as `views.data`. CGLS keeps its residual in `views.data`.
    scratch: Buffer<f32>,
    /// 1 / (A 1), one slice.
    ray_weight: Buffer<f32>,
    /// 1 / (Aᵀ 1), one slice, over the whole group.
    voxel_weight: Buffer<f32>,
}

/// What an iteration did, per slice and summed over the group.
#[derive(Debug, Clone, PartialEq)]
pub struct Residuals {
    /// Squared residual norm.
    pub residual2: Vec<f64>,
    /// Squared norm of the data.
    pub data2: Vec<f64>,
    /// Slices still going.
    pub active: usize,
}

impl Iteration {
    /// Starts from an image of zeros (of ones for the multiplicative algorithms). Collective over
    /// the group.
    ///
    /// # Errors
    /// Kernel errors.
    pub fn new(
        share: Share,
        views: Vec<Views>,
        order: Vec<usize>,
        method: &MethodSpec,
        mask: Option<Vec<f32>>,
    ) -> Result<Self> {
        let ops = share.slices()?;
        let per_slice = share.shape[0] * share.shape[1];
        let cgls = method.algorithm == Algorithm::Cgls;
        let mut data2 = vec![0.0; share.n_slices];
        let mut rays = [0.0];
        let mut subsets = Vec::new();
        for mut view in views {
            if method.algorithm.is_multiplicative() && share.n_slices > 0 {
                // A Poisson likelihood knows no negative counts; noise about 0 makes them.
                ops.clamp_min(0.0, &mut view.data)?;
            }
            if share.n_slices > 0 && view.projector.is_some() {
                add(&mut data2, &ops.norm2(&mut view.data)?);
                rays[0] += (view.data.len() / share.n_slices) as f64;
            }
            subsets.push(Subset::new(&share, view, cgls)?);
        }
        share.reduce_scalars(&mut data2)?;
        share.reduce_scalars(&mut rays)?;
        let image = if method.algorithm.is_multiplicative() {
            Buffer::from_vec(&share.device, vec![1.0; share.voxels()])?
        } else {
            share.zeros(per_slice)?
        };
        let mask = mask.map(|m| Buffer::from_vec(&share.device, m)).transpose()?;
        let direction = if cgls { Some(share.zeros(per_slice)?) } else { None };
        let mut iteration = Self {
            correction: share.zeros(per_slice)?,
            gradient2: vec![0.0; share.n_slices],
            stopped: vec![0; share.n_slices],
            ops,
            method: method.clone(),
            subsets,
            order,
            mask,
            image,
            direction,
            data2,
            rays: rays[0],
            share,
        };
        iteration.apply_mask_to_image()?;
        Ok(iteration)
    }

    /// The state for checkpoints: arrays of the window's shape, of which the slices `place.0` and
    /// the angles `place.1` are here. `window` is `[slices, angles]` in all.
    ///
    /// CGLS keeps its residual: the recursion and a fresh `y − A x` differ by rounding, and a
    /// resumed run must give the bits of one that never stopped.
    pub fn fields<'a>(&'a mut self, fields: &mut Fields<'a>, window: [usize; 2], place: (Range<usize>, Range<usize>)) {
        let [ny, nx] = self.share.shape;
        let leader = self.share.group.is_root();
        let shape = [window[0], ny, nx];
        let rows = Region::rows(&shape, place.0.clone());
        let slices = Region::rows(&window[..1], place.0.clone());
        fields.array("image", &shape, rows.clone(), self.image.host_mut()).owned = leader;
        if let Some(direction) = &mut self.direction {
            fields.array("direction", &shape, rows, direction.host_mut()).owned = leader;
            fields.array("gradient2", &window[..1], slices.clone(), &mut self.gradient2[..]).owned = leader;
            let shape = [window[0], window[1], self.share.n_cols];
            let part = Region::rows(&shape, place.0).with(1, place.1);
            fields.array("residual", &shape, part, self.subsets[0].views.data.host_mut());
        }
        fields.array("stopped", &window[..1], slices, &mut self.stopped[..]).owned = leader;
    }

    /// One iteration over all angles. Collective over the group.
    ///
    /// # Errors
    /// Kernel errors.
    pub fn step(&mut self, iteration: u64) -> Result<Residuals> {
        let residual2 = match self.method.algorithm {
            Algorithm::Cgls => self.cgls(iteration)?,
            a if a.is_multiplicative() => self.multiplicative()?,
            a if a.is_direct() || a.is_whole() => return Err(Error::workload(super::NAME, NotIterative)),
            _ => self.additive()?,
        };
        if let Some(noise) = self.method.noise {
            let target = noise * noise * self.rays;
            for (stopped, r2) in self.stopped.iter_mut().zip(&residual2) {
                *stopped |= u64::from(*r2 <= target);
            }
        }
        let active = self.stopped.iter().filter(|s| **s == 0).count();
        Ok(Residuals { residual2, data2: self.data2.clone(), active })
    }

    /// Whether this rank speaks for its slices: the first of its angle group.
    pub fn leads(&self) -> bool {
        self.share.group.is_root()
    }

    /// `value` for slices that go on, 0 for those that have stopped.
    fn steps(&self, value: impl Fn(usize) -> f64) -> Vec<f64> {
        self.stopped.iter().enumerate().map(|(s, stopped)| if *stopped == 1 { 0.0 } else { value(s) }).collect()
    }

    /// SIRT and OS-SART: `x += ω C Aᵀ R (y − A x)`, subset by subset.
    ///
    /// Source: Gregor and Benson, IEEE Trans. Med. Imaging 27 (2008) 918. The residual is the one
    /// met on the way (with several subsets, of the images between them).
    fn additive(&mut self) -> Result<Vec<f64>> {
        let omega = self.method.relaxation.unwrap_or(1.0);
        let mut residual2 = vec![0.0; self.share.n_slices];
        for k in self.order.clone() {
            let Subset { views, scratch, ray_weight, voxel_weight } = &mut self.subsets[k];
            if self.share.n_slices > 0 && views.projector.is_some() {
                views.forward(&mut self.image, scratch)?;
                // scratch = R (y − A x)
                self.ops.scale(&vec![-1.0; self.share.n_slices], scratch)?;
                self.ops.axpy(&vec![1.0; self.share.n_slices], &mut views.data, scratch)?;
                add(&mut residual2, &self.ops.norm2(scratch)?);
                self.ops.multiply(ray_weight, scratch)?;
            }
            views.back(&self.share, scratch, &mut self.correction)?;
            if self.share.n_slices == 0 {
                continue;
            }
            self.ops.multiply(voxel_weight, &mut self.correction)?;
            let alpha = self.steps(|_| omega);
            self.ops.axpy(&alpha, &mut self.correction, &mut self.image)?;
            if self.method.non_negative == Some(true) {
                self.ops.clamp_min(0.0, &mut self.image)?;
            }
            self.apply_mask_to_image()?;
        }
        self.share.reduce_scalars(&mut residual2)?;
        Ok(residual2)
    }

    /// MLEM and OSEM: `x ← x · Aᵀ(y / A x) / (Aᵀ 1)`, subset by subset.
    ///
    /// Source: Shepp and Vardi, IEEE Trans. Med. Imaging 1 (1982) 113; Hudson and Larkin, 13
    /// (1994) 601.
    fn multiplicative(&mut self) -> Result<Vec<f64>> {
        let mut residual2 = vec![0.0; self.share.n_slices];
        for k in self.order.clone() {
            let Subset { views, scratch, voxel_weight, .. } = &mut self.subsets[k];
            if self.share.n_slices > 0 && views.projector.is_some() {
                views.forward(&mut self.image, scratch)?;
                add(&mut residual2, &distance2(self.share.n_slices, views.data.host(), scratch.host()));
                let mut modelled = std::mem::replace(scratch, Buffer::zeros(&self.share.device, 0)?);
                *scratch = Buffer::zeros(&self.share.device, modelled.len())?;
                self.ops.ratio(&mut views.data, &mut modelled, scratch)?;
            }
            views.back(&self.share, scratch, &mut self.correction)?;
            if self.share.n_slices == 0 {
                continue;
            }
            self.ops.multiply(voxel_weight, &mut self.correction)?;
            self.ops.multiply(&mut self.correction, &mut self.image)?;
        }
        self.share.reduce_scalars(&mut residual2)?;
        Ok(residual2)
    }

    /// CGLS: conjugate gradients for `min ‖A x − y‖²`, each slice on its own.
    ///
    /// Source: Björck, Numerical Methods for Least Squares Problems (1996), algorithm 7.4.1.
    fn cgls(&mut self, iteration: u64) -> Result<Vec<f64>> {
        let n = self.share.n_slices;
        if iteration == 0 {
            // s = Aᵀ r, p = s, γ = ‖s‖²
            self.gradient()?;
            self.gradient2 = self.slicewise_norm2()?;
            let mut direction = self.direction.take().expect("CGLS has a direction");
            if n > 0 {
                self.ops.copy(&mut self.correction, &mut direction)?;
            }
            self.direction = Some(direction);
        }
        let mut direction = self.direction.take().expect("CGLS has a direction");
        let Subset { views, scratch, .. } = &mut self.subsets[0];
        // q = A p, α = γ / ‖q‖²
        let mut q2 = vec![0.0; n];
        if n > 0 && views.projector.is_some() {
            views.forward(&mut direction, scratch)?;
            add(&mut q2, &self.ops.norm2(scratch)?);
        }
        self.share.reduce_scalars(&mut q2)?;
        let gamma = self.gradient2.clone();
        let alpha = self.steps(|s| if q2[s] > 0.0 { gamma[s] / q2[s] } else { 0.0 });
        let mut residual2 = vec![0.0; n];
        let Subset { views, scratch, .. } = &mut self.subsets[0];
        if n > 0 {
            // x += α p, r −= α q
            self.ops.axpy(&alpha, &mut direction, &mut self.image)?;
            if views.projector.is_some() {
                self.ops.axpy(&alpha.iter().map(|a| -a).collect::<Vec<_>>(), scratch, &mut views.data)?;
                add(&mut residual2, &self.ops.norm2(&mut views.data)?);
            }
        }
        self.share.reduce_scalars(&mut residual2)?;
        // s = Aᵀ r, β = γ' / γ, p = s + β p
        self.gradient()?;
        let gamma = self.slicewise_norm2()?;
        let old = std::mem::replace(&mut self.gradient2, gamma);
        let beta: Vec<f64> =
            self.gradient2.iter().zip(&old).map(|(new, old)| if *old > 0.0 { new / old } else { 0.0 }).collect();
        if n > 0 {
            self.ops.xpby(&mut self.correction, &beta, &mut direction)?;
        }
        self.direction = Some(direction);
        Ok(residual2)
    }

    /// correction = M Aᵀ r
    fn gradient(&mut self) -> Result<()> {
        let Subset { views, scratch, .. } = &mut self.subsets[0];
        if self.share.n_slices > 0 && views.projector.is_some() {
            self.ops.copy(&mut views.data, scratch)?;
        }
        views.back(&self.share, scratch, &mut self.correction)?;
        if let (Some(mask), true) = (&mut self.mask, self.share.n_slices > 0) {
            self.ops.multiply(mask, &mut self.correction)?;
        }
        Ok(())
    }

    fn slicewise_norm2(&mut self) -> Result<Vec<f64>> {
        if self.share.n_slices == 0 { Ok(Vec::new()) } else { Ok(self.ops.norm2(&mut self.correction)?) }
    }

    fn apply_mask_to_image(&mut self) -> Result<()> {
        if let (Some(mask), true) = (&mut self.mask, self.share.n_slices > 0) {
            self.ops.multiply(mask, &mut self.image)?;
        }
        Ok(())
    }
}

/// Asked to iterate an algorithm that does not.
#[derive(Debug, thiserror::Error)]
#[error("this algorithm does not iterate slice by slice")]
struct NotIterative;

impl Subset {
    fn new(share: &Share, views: Views, cgls: bool) -> Result<Self> {
        let scratch = Buffer::zeros(&share.device, views.data.len())?;
        if cgls {
            let none = || Buffer::zeros(&share.device, 0);
            return Ok(Self { scratch, ray_weight: none()?, voxel_weight: none()?, views });
        }
        let per_slice = share.shape[0] * share.shape[1];
        let (mut ray_weight, mut voxel_weight) =
            (Buffer::zeros(&share.device, 0)?, Buffer::zeros(&share.device, per_slice)?);
        if let Some(projector) = &views.projector {
            let rays = projector.n_active() * share.n_cols;
            ray_weight = Buffer::zeros(&share.device, rays)?;
            projector.forward(&mut Buffer::from_vec(&share.device, vec![1.0; per_slice])?, &mut ray_weight)?;
            projector.back(&mut Buffer::from_vec(&share.device, vec![1.0; rays])?, &mut voxel_weight)?;
        }
        share.reduce(&mut voxel_weight)?;
        ray_weight.host_mut().iter_mut().for_each(invert);
        voxel_weight.host_mut().iter_mut().for_each(invert);
        Ok(Self { views, scratch, ray_weight, voxel_weight })
    }
}

fn invert(weight: &mut f32) {
    *weight = if *weight > TINY { 1.0 / *weight } else { 0.0 };
}

fn add(sum: &mut [f64], more: &[f64]) {
    sum.iter_mut().zip(more).for_each(|(s, m)| *s += m);
}

/// ‖a − b‖² of every slice, in f64.
fn distance2(n_slices: usize, a: &[f32], b: &[f32]) -> Vec<f64> {
    let per_slice = (a.len() / n_slices.max(1)).max(1);
    let pairs = a.chunks(per_slice).zip(b.chunks(per_slice));
    pairs.map(|(a, b)| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()).collect()
}
