//! A [`Phantom`] on a grid of cubic voxels.

use std::ops::Range;

use rayon::prelude::*;

use super::phantom::{Ellipsoid, Phantom, dot};

/// Part of a line inside an ellipsoid.
fn inside(part: &Ellipsoid, y: f64, z: f64) -> Option<(f64, f64)> {
    // |x W e_x + W (y e_y + z e_z - c)|² = a x² + 2 b x + c <= 1
    let along = part.to_unit_ball([1.0, 0.0, 0.0]);
    let [cx, cy, cz] = part.centre;
    let offset = part.to_unit_ball([-cx, y - cy, z - cz]);
    let (a, b, c) = (dot(along, along), dot(along, offset), dot(offset, offset));
    let discriminant = b * b - a * (c - 1.0);
    (discriminant > 0.0).then(|| {
        let root = discriminant.sqrt();
        ((-b - root) / a, (-b + root) / a)
    })
}

impl Phantom {
    /// Voxels of the slices `slices` of a grid of shape `[nz, ny, nx]`: `[slices.len(), ny, nx]`,
    /// row-major. Voxels are cubes of side h = 2 / nx with centres x_i = (i − (nx − 1)/2) h, and
    /// the same for y and z, so `nx = ny = nz` fills [-1, 1]³. A voxel is the mean of
    /// `supersample`³ points on a regular grid in it.
    ///
    /// # Panics
    /// `slices` exceeds nz, or `supersample` is 0.
    pub fn voxels(&self, shape: [usize; 3], slices: Range<usize>, supersample: usize) -> Vec<f32> {
        let [nz, ny, nx] = shape;
        assert!(slices.end <= nz, "slices {slices:?} exceed the grid's {nz}");
        assert!(supersample > 0, "a voxel needs at least one point");
        let mut volume = vec![0.0; slices.len() * ny * nx];
        if volume.is_empty() {
            return volume;
        }
        volume.par_chunks_mut(ny * nx).zip(slices).for_each(|(slice, iz)| {
            let mut line = vec![0.0_f64; nx];
            for (iy, out) in slice.chunks_mut(nx).enumerate() {
                line.fill(0.0);
                self.add_line(shape, [iz, iy], supersample, &mut line);
                for (out, value) in out.iter_mut().zip(&line) {
                    *out = *value as f32;
                }
            }
        });
        volume
    }

    /// Adds the voxels of row `iy` of slice `iz` to `line` [nx].
    fn add_line(&self, [nz, ny, nx]: [usize; 3], [iz, iy]: [usize; 2], s: usize, line: &mut [f64]) {
        let h = 2.0 / nx as f64 / s as f64; // distance of points
        let position = |k: usize, n: usize| (k as f64 - ((n * s) as f64 - 1.0) / 2.0) * h;
        let index = |x: f64| x / h + ((nx * s) as f64 - 1.0) / 2.0;
        let share = 1.0 / (s * s * s) as f64;
        for part in &self.ellipsoids {
            for z in (0..s).map(|k| position(iz * s + k, nz)) {
                for y in (0..s).map(|k| position(iy * s + k, ny)) {
                    let Some((low, high)) = inside(part, y, z) else {
                        continue;
                    };
                    let first = index(low).ceil().max(0.0);
                    let last = index(high).floor().min((nx * s) as f64 - 1.0);
                    if last < first {
                        continue;
                    }
                    add_points(line, first as usize, last as usize, s, part.value * share);
                }
            }
        }
    }
}

/// Adds `value` per point of `first..=last`, where `s` points make one voxel of `line`.
fn add_points(line: &mut [f64], first: usize, last: usize, s: usize, value: f64) {
    let (first_voxel, last_voxel) = (first / s, last / s);
    if first_voxel == last_voxel {
        line[first_voxel] += value * (last + 1 - first) as f64;
        return;
    }
    // Only the voxels at the ends are partly inside.
    line[first_voxel] += value * ((first_voxel + 1) * s - first) as f64;
    line[first_voxel + 1..last_voxel].iter_mut().for_each(|out| *out += value * s as f64);
    line[last_voxel] += value * (last + 1 - last_voxel * s) as f64;
}

#[cfg(test)]
mod tests {
    use super::super::phantom::test_uniform;
    use super::*;

    #[test]
    fn voxels_are_the_mean_of_their_points() {
        let phantom = Phantom::random_ellipsoids(5, test_uniform(2));
        let (shape, s) = ([6, 10, 12], 3);
        let found = phantom.voxels(shape, 0..6, s);
        let h = 2.0 / 12.0;
        let at = |i: usize, k: usize, n: usize| {
            (i as f64 - (n as f64 - 1.0) / 2.0) * h + (k as f64 - (s as f64 - 1.0) / 2.0) * h / s as f64
        };
        for (flat, &value) in found.iter().enumerate() {
            let (iz, iy, ix) = (flat / 120, flat / 12 % 10, flat % 12);
            let mut sum = 0.0;
            for k in 0..s * s * s {
                let (kz, ky, kx) = (k / 9, k / 3 % 3, k % 3);
                sum += phantom.value_at([at(ix, kx, 12), at(iy, ky, 10), at(iz, kz, 6)]);
            }
            assert!((sum / 27.0 - f64::from(value)).abs() < 1e-6, "{iz} {iy} {ix}");
        }
    }

    #[test]
    fn the_mass_converges_to_the_volume_integral() {
        let phantom = Phantom::shepp_logan_3d();
        let n = 96;
        let sum: f64 = phantom.voxels([n; 3], 0..n, 2).iter().map(|&value| f64::from(value)).sum();
        let mass = sum * (2.0 / n as f64).powi(3);
        assert!((mass / phantom.integral() - 1.0).abs() < 1e-3, "{mass} {}", phantom.integral());
    }

    #[test]
    fn a_band_of_slices_equals_the_slices_of_the_whole() {
        let phantom = Phantom::shepp_logan_3d();
        let all = phantom.voxels([8, 16, 16], 0..8, 2);
        assert_eq!(phantom.voxels([8, 16, 16], 3..5, 2), all[3 * 256..5 * 256]);
    }
}
