//! Plain loops: what the device is compared with.

use super::Slab;

/// Slice, y and x of voxel i.
fn place(slab: &Slab, i: usize) -> [usize; 3] {
    let [ny, nx] = slab.points;
    [i / (ny * nx), i / nx % ny, i % nx]
}

/// Where the difference of a voxel along an axis lies.
fn at(slab: &Slab, [slice, y, x]: [usize; 3], axis: usize) -> usize {
    let [ny, nx] = slab.points;
    ((slice * ny + y) * slab.axes + axis) * nx + x
}

/// ∇v.
pub fn gradient(slab: &Slab, v: &[f32], behind: Option<&[f32]>) -> Vec<f32> {
    let ([ny, nx], size) = (slab.points, slab.size());
    let mut g = vec![0.0; slab.field()];
    for (i, here) in v.iter().enumerate() {
        let [slice, y, x] = place(slab, i);
        let below = v.get(i + size).or_else(|| behind.map(|behind| &behind[i + size - v.len()]));
        g[at(slab, [slice, y, x], 0)] = below.map_or(0.0, |below| below - here);
        if slab.axes == 3 {
            g[at(slab, [slice, y, x], 1)] = if y + 1 < ny { v[i + nx] - here } else { 0.0 };
            g[at(slab, [slice, y, x], 2)] = if x + 1 < nx { v[i + 1] - here } else { 0.0 };
        }
    }
    g
}

/// The nearest field whose voxels have at most this norm.
pub fn project(slab: &Slab, radius: f32, together: bool, p: &mut [f32]) {
    for i in 0..slab.voxels() {
        let places: Vec<usize> = (0..slab.axes).map(|axis| at(slab, place(slab, i), axis)).collect();
        let norm = places.iter().map(|at| p[*at] * p[*at]).sum::<f32>().sqrt();
        for at in places {
            p[at] = if together { p[at] * (radius / norm.max(radius)) } else { p[at].clamp(-radius, radius) };
        }
    }
}

/// ∇ᵀp.
pub fn transposed(slab: &Slab, p: &[f32], before: Option<&[f32]>) -> Vec<f32> {
    let of = |i: usize| {
        let [slice, y, x] = place(slab, i);
        let here = |axis: usize| p[at(slab, [slice, y, x], axis)];
        let above = if slice > 0 { p[at(slab, [slice - 1, y, x], 0)] } else { before.map_or(0.0, |before| before[i]) };
        let mut t = above - here(0);
        if slab.axes == 3 {
            t += if y > 0 { p[at(slab, [slice, y - 1, x], 1)] } else { 0.0 } - here(1);
            t += if x > 0 { p[at(slab, [slice, y, x - 1], 2)] } else { 0.0 } - here(2);
        }
        t
    };
    (0..slab.voxels()).map(of).collect()
}

/// ∇ᵀ∇v.
pub fn normal(slab: &Slab, v: &[f32], before: Option<&[f32]>, behind: Option<&[f32]>) -> Vec<f32> {
    // The differences of the slice before the first one are those from it to the first one.
    let before: Option<Vec<f32>> = before.map(|before| v.iter().zip(before).map(|(v, b)| v - b).collect());
    transposed(slab, &gradient(slab, v, behind), before.as_deref())
}

/// out = M f(i, out).
pub fn combine(out: &mut [f32], mask: Option<&[f32]>, f: impl Fn(usize, f32) -> f32) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = mask.map_or(1.0, |mask| mask[i % mask.len()]) * f(i, *out);
    }
}
