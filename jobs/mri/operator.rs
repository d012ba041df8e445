//! From real images to the measured lines of k-space, and back: A = M F S.
//!
//! S multiplies by the coil maps, F is the unitary transform with the middle of image and k-space at n/2 of each axis, M keeps some lines.
//! Aᵀ = Re Σ S* F* Mᵀ, the exact adjoint for real images. 10 n² log₂ n flops for each slice, coil and direction.

use std::ops::Range;
use std::sync::Arc;

use convoke_cluster::{Comm, Fields, Region, Result};
use convoke_kernels::{Buffer, Device};
use num_complex::Complex32;
use rayon::prelude::*;
use rustfft::{Fft, FftPlanner};

use crate::inverse::place::Place;
use crate::inverse::{Operator, vectors};

/// Unitary transforms of images of one size, middles at n/2.
#[derive(Clone)]
pub struct Centred {
    points: [usize; 2],
    /// Along x and along y, there and back.
    plans: [[Arc<dyn Fft<f32>>; 2]; 2],
}

impl std::fmt::Debug for Centred {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Centred").field("points", &self.points).finish_non_exhaustive()
    }
}

impl Centred {
    /// Of `[y, x]` points.
    pub fn new(points: [usize; 2]) -> Self {
        let mut planner = FftPlanner::new();
        let [ny, nx] = points;
        let mut both = |n: usize| [planner.plan_fft_forward(n), planner.plan_fft_inverse(n)];
        Self { points, plans: [both(nx), both(ny)] }
    }

    /// Replaces an image by its k-space, or the other way.
    pub fn apply(&self, values: &mut [Complex32], back: bool) {
        let [ny, nx] = self.points;
        let direction = usize::from(back);
        let norm = 1.0 / ((nx * ny) as f32).sqrt();
        // The middle n/2 goes to 0 before the transform, and 0 to n/2 behind it.
        let lines = |values: &mut [Complex32], n: usize, plan: &Arc<dyn Fft<f32>>| {
            for line in values.chunks_mut(n) {
                line.rotate_left(n / 2);
            }
            plan.process(values);
            for line in values.chunks_mut(n) {
                line.rotate_right(n / 2);
            }
        };
        lines(values, nx, &self.plans[0][direction]);
        let mut turned = transposed(values, ny, nx);
        lines(&mut turned, ny, &self.plans[1][direction]);
        let turned = transposed(&turned, nx, ny);
        values.iter_mut().zip(turned).for_each(|(v, t)| *v = t * norm);
    }
}

fn transposed(values: &[Complex32], rows: usize, cols: usize) -> Vec<Complex32> {
    (0..rows * cols).map(|i| values[(i % rows) * cols + i / rows]).collect()
}

/// The operator of some slices.
#[derive(Debug)]
pub struct Encoding {
    place: Place,
    device: Device,
    slices: Slices,
}

/// What there is to know of each slice here.
#[derive(Debug)]
struct Slices {
    transform: Centred,
    lines: Vec<usize>,
    points: [usize; 2],
    coils: usize,
    /// `[slice, coil, y, x]`; `None`: one coil that sees all alike.
    maps: Option<Vec<Complex32>>,
}

impl Encoding {
    /// Of this rank's slices `here` of `all`, with maps of theirs.
    pub fn new(
        (comm, device): (&Comm, &Device),
        (here, all): (Range<usize>, usize),
        points: [usize; 2],
        lines: Vec<usize>,
        maps: Option<Vec<Complex32>>,
    ) -> Self {
        let place = Place { comm: comm.clone(), slices: here, all, points, leads: true };
        let coils = maps.as_ref().map_or(1, |maps| (maps.len() / place.len().max(1)).max(1));
        let slices = Slices { transform: Centred::new(points), lines, points, coils, maps };
        Self { place, device: device.clone(), slices }
    }
}

impl Slices {
    fn size(&self) -> usize {
        self.points[0] * self.points[1]
    }

    /// Values of a slice: `[coil, line, x, 2]`.
    fn values(&self) -> usize {
        2 * self.coils * self.lines.len() * self.points[1]
    }

    /// What coil `coil` sees at each point of slice `slice` of those here.
    fn map(&self, slice: usize, coil: usize) -> Option<&[Complex32]> {
        let size = self.size();
        self.maps.as_ref().map(|maps| &maps[(slice * self.coils + coil) * size..][..size])
    }

    fn see(&self, slice: usize, image: &[f32], out: &mut [f32]) {
        let nx = self.points[1];
        for (coil, out) in out.chunks_mut(self.values() / self.coils).enumerate() {
            let mut values: Vec<Complex32> = match self.map(slice, coil) {
                Some(map) => map.iter().zip(image).map(|(s, v)| s * v).collect(),
                None => image.iter().map(|v| Complex32::new(*v, 0.0)).collect(),
            };
            self.transform.apply(&mut values, false);
            for (line, out) in self.lines.iter().zip(out.chunks_mut(2 * nx)) {
                let row = &values[line * nx..][..nx];
                out.as_chunks_mut::<2>().0.iter_mut().zip(row).for_each(|(out, v)| *out = [v.re, v.im]);
            }
        }
    }

    fn unsee(&self, slice: usize, data: &[f32], image: &mut [f32]) {
        let nx = self.points[1];
        image.fill(0.0);
        for (coil, data) in data.chunks(self.values() / self.coils).enumerate() {
            let mut values = vec![Complex32::default(); self.size()];
            for (line, data) in self.lines.iter().zip(data.chunks(2 * nx)) {
                let row = &mut values[line * nx..][..nx];
                row.iter_mut().zip(data.as_chunks::<2>().0).for_each(|(v, [re, im])| *v = Complex32::new(*re, *im));
            }
            self.transform.apply(&mut values, true);
            match self.map(slice, coil) {
                Some(map) => {
                    image.iter_mut().zip(map).zip(&values).for_each(|((out, s), v)| *out += (s.conj() * v).re);
                }
                None => image.iter_mut().zip(&values).for_each(|(out, v)| *out += v.re),
            }
        }
    }
}

impl Operator for Encoding {
    fn place(&self) -> &Place {
        &self.place
    }

    fn measured_len(&self) -> usize {
        self.place.slices.len() * self.slices.values()
    }

    fn forward(&mut self, v: &mut Buffer<f32>, q: &mut Buffer<f32>) -> Result<()> {
        let this = &self.slices;
        let slices = v.host().par_chunks(self.place.size()).zip(q.host_mut().par_chunks_mut(this.values()));
        slices.enumerate().for_each(|(slice, (image, out))| this.see(slice, image, out));
        Ok(())
    }

    fn back(&mut self, q: &mut Buffer<f32>, v: &mut Buffer<f32>) -> Result<()> {
        let this = &self.slices;
        let slices = q.host().par_chunks(this.values()).zip(v.host_mut().par_chunks_mut(self.place.size()));
        slices.enumerate().for_each(|(slice, (data, image))| this.unsee(slice, data, image));
        Ok(())
    }

    fn dot(&self, a: &[f32], b: &[f32]) -> Result<f64> {
        let n = self.slices.values();
        self.place.sum(&a.par_chunks(n).zip(b.par_chunks(n)).map(|(a, b)| vectors::dot(a, b)).collect::<Vec<f64>>())
    }

    fn keep<'a>(&self, name: &str, q: &'a mut Buffer<f32>, fields: &mut Fields<'a>) {
        let shape = [self.place.all, self.slices.values()];
        fields.array(name, &shape, Region::rows(&shape, self.place.slices.clone()), q.host_mut());
    }

    fn device(&self) -> &Device {
        &self.device
    }

    /// Fourier transforms are the processor's.
    fn is_on_gpu(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(n: usize, stream: u64) -> Vec<f32> {
        (0..n as u64).map(|i| convoke_kernels::Philox::new(1, stream).normal(i) as f32).collect()
    }

    /// A point off the middle has a plane wave, by its formula; the transform keeps lengths and its inverse undoes it. Odd and even sizes.
    #[test]
    fn the_transform_is_the_centred_one() {
        for [ny, nx] in [[6, 9], [8, 5], [7, 4]] {
            let transform = Centred::new([ny, nx]);
            let (y, x) = (ny - 2, 1);
            let mut values = vec![Complex32::default(); ny * nx];
            values[y * nx + x] = Complex32::new(1.0, 0.0);
            let point = values.clone();
            transform.apply(&mut values, false);
            let off = |i: usize, n: usize| i as f64 - (n / 2) as f64;
            for (i, found) in values.iter().enumerate() {
                let phase = off(i / nx, ny) * off(y, ny) / ny as f64 + off(i % nx, nx) * off(x, nx) / nx as f64;
                let due = num_complex::Complex64::cis(-std::f64::consts::TAU * phase) / ((ny * nx) as f64).sqrt();
                let far = (f64::from(found.re) - due.re).hypot(f64::from(found.im) - due.im);
                assert!(far < 1e-6, "{ny}x{nx} {i}: {found} {due}");
            }
            transform.apply(&mut values, true);
            assert!(values.iter().zip(&point).all(|(a, b)| (a - b).norm() < 1e-6));
        }
    }

    /// ⟨A v, q⟩ = ⟨v, Aᵀ q⟩ to 1e-6 of ‖A v‖ ‖q‖, with and without coils; maps whose squares add to one and all lines leave AᵀA = 1.
    #[test]
    fn the_adjoint_is_exact() {
        let ([ny, nx], slices, coils) = ([12, 10], 3, 4);
        let size = ny * nx;
        let mut maps: Vec<Complex32> = random(2 * slices * coils * size, 3)
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[re, im]| Complex32::new(*re, *im))
            .collect();
        for slice in maps.chunks_mut(coils * size) {
            for i in 0..size {
                let norm = (0..coils).map(|c| slice[c * size + i].norm_sqr()).sum::<f32>().sqrt();
                (0..coils).for_each(|c| slice[c * size + i] /= norm);
            }
        }
        for (lines, maps) in
            [(vec![0, 3, 5, 6, 11], None), (vec![1, 6, 7], Some(maps.clone())), ((0..ny).collect(), Some(maps))]
        {
            let whole = lines.len() == ny;
            let comm = (&Comm::solo(), &Device::cpu());
            let mut a = Encoding::new(comm, (0..slices, slices), [ny, nx], lines, maps);
            let (v, q) = (random(slices * size, 1), random(a.measured_len(), 2));
            let buffer = |v: &[f32]| Buffer::from_vec(&Device::cpu(), v.to_vec()).expect("a buffer");
            let (mut av, mut aq) = (buffer(&q), buffer(&v));
            a.forward(&mut buffer(&v), &mut av).expect("there");
            a.back(&mut buffer(&q), &mut aq).expect("back");
            let dot = |a: &[f32], b: &[f32]| vectors::dot(a, b);
            let (one, other) = (dot(av.host(), &q), dot(&v, aq.host()));
            let image = av.host().to_vec();
            let length = (dot(&image, &image) * dot(&q, &q)).sqrt();
            assert!((one - other).abs() < 1e-6 * length, "{one} {other} {length}");
            if whole {
                a.back(&mut av, &mut aq).expect("back");
                let far = aq.host().iter().zip(&v).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(far < 1e-5, "{far}");
            }
        }
    }
}
