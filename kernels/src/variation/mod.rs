//! Steps of alternating directions for total variation (Rudin, Osher and Fatemi 1992; Boyd et al. 2011) on slabs of slices, in single precision.
//!
//! Volumes are `[slice, y, x]`, fields of differences `[slice, y, axis, x]` with the axes z, y, x, or z alone. Behind the last voxel of an axis the
//! difference is 0 (Neumann). Where a slab ends, a slice of the neighbour goes on: [`Slab::slice`], [`Slab::last_differences`].
//!
//! Every voxel is gathered by one thread: nothing depends on a run. Here the processor has the plain loops of `reference.rs` alone.
//!
//! | | |
//! |---|---|
//! | w = P(∇v + w), room = w before − 2 w, P onto norms of at most r | [`Slab::dual`] |
//! | out = M (a ∇ᵀp + b out) | [`Slab::transposed`] |
//! | out = M (a ∇ᵀ∇v + b out + c v) | [`Slab::normal`] |
//! | w = min(x + w, 0), r += ρ (w before − 2 w) | [`bound`] |

mod cuda;
pub mod reference;
#[cfg(test)]
mod tests;

use crate::fourier_layer::{at_least_one, below_2_31, expect};
use crate::{Buffer, Device, KernelError, Result};

type Array = Buffer<f32>;

/// Slices of a volume that are here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slab {
    /// Slices.
    pub slices: usize,
    /// Points of a slice along y and x.
    pub points: [usize; 2],
    /// 3, or 1 for differences along z alone.
    pub axes: usize,
}

impl Slab {
    /// Voxels of a slice.
    pub fn size(&self) -> usize {
        self.points[0] * self.points[1]
    }

    /// Voxels.
    pub fn voxels(&self) -> usize {
        self.slices * self.size()
    }

    /// Numbers of a field.
    pub fn field(&self) -> usize {
        self.axes * self.voxels()
    }

    fn check(&self, edges: &[Option<&mut Array>]) -> Result<()> {
        if !matches!(self.axes, 1 | 3) {
            return Err(KernelError::Parameter { what: "axes of a field", value: self.axes as f64, rule: "1 or 3" });
        }
        at_least_one("slices and points", self.slices.min(self.size()))?;
        below_2_31("voxels of a slice, times axes", self.size() * self.axes)?;
        edges.iter().flatten().try_for_each(|edge| expect("a slice [y, x]", edge.len(), self.size()))
    }

    /// w = P(∇v + w) and room = w before − 2 w, with P the nearest field whose voxels have at most the norm `radius`: of all differences
    /// `together`, or of each by itself. `behind`: the slice after the last one.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn dual(
        &self,
        device: &Device,
        (radius, together): (f32, bool),
        (v, behind): (&mut Array, Option<&mut Array>),
        w: &mut Array,
        room: &mut Array,
    ) -> Result<()> {
        self.check(std::slice::from_ref(&behind))?;
        expect("v [slices, y, x]", v.len(), self.voxels())?;
        expect("w [slices, y, axes, x]", w.len(), self.field())?;
        expect("room [slices, y, axes, x]", room.len(), self.field())?;
        if let Device::Gpu(gpu) = device {
            return cuda::dual(gpu, self, (radius, together), (v, behind), w, room);
        }
        let g = reference::gradient(self, v.host(), behind.map(Buffer::host));
        for (old, (w, g)) in room.host_out().iter_mut().zip(w.host_mut().iter_mut().zip(g)) {
            (*old, *w) = (*w, *w + g);
        }
        reference::project(self, radius, together, w.host_mut());
        room.host_mut().iter_mut().zip(w.host()).for_each(|(room, w)| *room -= 2.0 * w);
        Ok(())
    }

    /// out = M (a ∇ᵀp + b out), M a slice of factors or none. `before`: the differences along z of the slice before the first one.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn transposed(
        &self,
        device: &Device,
        [a, b]: [f32; 2],
        (p, before): (&mut Array, Option<&mut Array>),
        mask: Option<&mut Array>,
        out: &mut Array,
    ) -> Result<()> {
        let edges = [before, mask];
        self.check(&edges)?;
        let [before, mask] = edges;
        expect("p [slices, y, axes, x]", p.len(), self.field())?;
        expect("out [slices, y, x]", out.len(), self.voxels())?;
        if let Device::Gpu(gpu) = device {
            return cuda::transposed(gpu, self, [a, b], (p, before), mask, out);
        }
        let t = reference::transposed(self, p.host(), before.map(Buffer::host));
        reference::combine(out.host_mut(), mask.map(Buffer::host), |i, out| a * t[i] + b * out);
        Ok(())
    }

    /// out = M (a ∇ᵀ∇v + b out + c v). `before` and `behind`: the slices before the first one and after the last one.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn normal(
        &self,
        device: &Device,
        [a, b, c]: [f32; 3],
        (v, before, behind): (&mut Array, Option<&mut Array>, Option<&mut Array>),
        mask: Option<&mut Array>,
        out: &mut Array,
    ) -> Result<()> {
        let edges = [before, behind, mask];
        self.check(&edges)?;
        let [before, behind, mask] = edges;
        expect("v [slices, y, x]", v.len(), self.voxels())?;
        expect("out [slices, y, x]", out.len(), self.voxels())?;
        if let Device::Gpu(gpu) = device {
            return cuda::normal(gpu, self, [a, b, c], (v, before, behind), mask, out);
        }
        let (before, behind) = (before.map(Buffer::host), behind.map(Buffer::host));
        let t = reference::normal(self, v.host(), before, behind);
        let v = v.host();
        reference::combine(out.host_mut(), mask.map(Buffer::host), |i, out| a * t[i] + b * out + c * v[i]);
        Ok(())
    }

    /// The first slice of `v`, or the last one, into `edge` `[y, x]`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn slice(&self, device: &Device, v: &mut Array, last: bool, edge: &mut Array) -> Result<()> {
        self.check(&[])?;
        expect("v [slices, y, x]", v.len(), self.voxels())?;
        let start = if last { self.voxels() - self.size() } else { 0 };
        self.rows(device, (start, self.points[1]), v, edge)
    }

    /// The differences along z of the last slice of a field `p`, into `edge` `[y, x]`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn last_differences(&self, device: &Device, p: &mut Array, edge: &mut Array) -> Result<()> {
        self.check(&[])?;
        expect("p [slices, y, axes, x]", p.len(), self.field())?;
        self.rows(device, (self.field() - self.axes * self.size(), self.axes * self.points[1]), p, edge)
    }

    fn rows(&self, device: &Device, (start, pitch): (usize, usize), from: &mut Array, edge: &mut Array) -> Result<()> {
        expect("a slice [y, x]", edge.len(), self.size())?;
        if let Device::Gpu(gpu) = device {
            return cuda::rows(gpu, (start, pitch, self.points[1]), from, edge);
        }
        let rows = from.host()[start..].chunks(pitch);
        for (to, row) in edge.host_out().chunks_mut(self.points[1]).zip(rows) {
            to.copy_from_slice(&row[..to.len()]);
        }
        Ok(())
    }
}

/// w = min(x + w, 0) and r += ρ (w before − 2 w): the dual of x ≥ 0.
///
/// # Errors
/// Where the lengths disagree, or the device fails.
pub fn bound(device: &Device, rho: f32, x: &mut Array, w: &mut Array, r: &mut Array) -> Result<()> {
    expect("w", w.len(), x.len())?;
    expect("r", r.len(), x.len())?;
    if let Device::Gpu(gpu) = device {
        return cuda::bound(gpu, rho, x, w, r);
    }
    for ((x, w), r) in x.host().iter().zip(w.host_mut()).zip(r.host_mut()) {
        let old = std::mem::replace(w, (x + *w).min(0.0));
        *r += rho * (old - 2.0 * *w);
    }
    Ok(())
}
