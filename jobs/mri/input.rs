//! k-space: from a file, or of a generated object.

use std::ops::Range;
use std::path::PathBuf;

use convoke_cluster::workload::Inputs;
use convoke_cluster::{BadValue, Error, Result};
use convoke_data::problems::phantom::Phantom;
use convoke_data::store::Reader;
use convoke_kernels::Philox;
use num_complex::Complex32;
use rayon::prelude::*;

use super::operator::Centred;
use super::sampling;
use super::spec::{PhantomKind, PhantomSpec, ScanSpec, Spec};

/// Streams of random numbers.
const OBJECT: u64 = 0x6d72_692e_6f62_6a21; // "mri.obj!"
const NOISE: u64 = 0x6d72_692e_6e6f_6973; // "mri.nois"
/// Points of the object along each axis of a voxel.
const SUPERSAMPLE: usize = 3;

/// Where k-space comes from, its sizes, and which lines are measured.
#[derive(Debug, Clone)]
pub struct Source {
    /// All slices.
    pub slices: usize,
    /// Coils.
    pub coils: usize,
    /// Points of a slice, `[y, x]`, and of its k-space.
    pub points: [usize; 2],
    /// Numbers of the measured lines.
    pub lines: Vec<usize>,
    /// Whether there are coil maps.
    pub has_maps: bool,
    /// Deviation of the noise of real and imaginary parts, as far as it is known.
    pub noise: f64,
    kind: Kind,
    seed: u64,
}

#[derive(Debug, Clone)]
enum Kind {
    Scan { path: PathBuf, spec: ScanSpec },
    Phantom(PhantomSpec),
}

/// k-space that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {name} has values that are not finite, the first in slice {slice}")]
struct NotFinite {
    path: String,
    name: String,
    slice: usize,
}

impl Source {
    /// Opens a file, or knows the object; reads no k-space.
    ///
    /// # Errors
    /// A file that is missing; arrays that are missing or of shapes that do not fit, by key.
    pub fn open(spec: &Spec, inputs: &Inputs, seed: u64) -> Result<Self> {
        let known = spec.method.noise;
        if let Some(phantom) = &spec.phantom {
            let n = phantom.size;
            return Ok(Self {
                slices: phantom.slices.unwrap_or(n),
                coils: phantom.coils,
                points: [n; 2],
                lines: sampling::lines(spec.sampling.as_ref(), n, seed),
                has_maps: phantom.coils > 1,
                noise: known.unwrap_or(phantom.noise),
                kind: Kind::Phantom(phantom.clone()),
                seed,
            });
        }
        let Some(scan) = &spec.scan else {
            return Err(BadValue::wrong("problem", "no source of k-space").into());
        };
        let path = inputs.resolve(&scan.file);
        let file = Reader::open(&path).map_err(|error| BadValue::wrong("problem.scan.file", error))?;
        let shape = |key: &str, name: &str| {
            file.shape(name).map_err(|error| BadValue::wrong(format!("problem.scan.{key}"), error))
        };
        let kspace = shape("kspace", &scan.kspace)?;
        let [slices, coils, ny, nx] = match kspace[..] {
            [slices, ny, nx, 2] => [slices, 1, ny, nx],
            [slices, coils, ny, nx, 2] => [slices, coils, ny, nx],
            _ => {
                let expected = "an array of [slice, ky, kx, 2] or [slice, coil, ky, kx, 2]";
                return Err(BadValue::new("problem.scan.kspace", format!("shape {kspace:?}"), expected).into());
            }
        };
        if slices * coils * ny * nx == 0 {
            return Err(BadValue::new("problem.scan.kspace", format!("shape {kspace:?}"), "at least one value").into());
        }
        match &scan.maps {
            None if coils > 1 => {
                let message = format!(": no coil maps, and {} has {coils} coils", scan.kspace);
                return Err(BadValue::wrong("problem.scan.maps", message).into());
            }
            None => {}
            Some(maps) => {
                let (found, due) = (shape("maps", maps)?, vec![slices, coils, ny, nx, 2]);
                if found != due {
                    return Err(
                        BadValue::new("problem.scan.maps", format!("shape {found:?}"), format!("{due:?}")).into()
                    );
                }
            }
        }
        let lines = match &scan.mask {
            None => sampling::lines(spec.sampling.as_ref(), ny, seed),
            Some(name) => {
                let found = shape("mask", name)?;
                if found != [ny] {
                    return Err(
                        BadValue::new("problem.scan.mask", format!("shape {found:?}"), format!("[{ny}]")).into()
                    );
                }
                let mask: Vec<f32> = file.read(name).map_err(|error| BadValue::wrong("problem.scan.mask", error))?;
                (0..ny).filter(|k| mask[*k] != 0.0).collect()
            }
        };
        if lines.is_empty() {
            return Err(BadValue::wrong("problem.scan.mask", "no line is measured").into());
        }
        let (has_maps, kind) = (scan.maps.is_some(), Kind::Scan { path, spec: scan.clone() });
        Ok(Self { slices, coils, points: [ny, nx], lines, has_maps, noise: known.unwrap_or(0.0), kind, seed })
    }

    /// Values of a slice: `[coil, line, x, 2]`.
    pub fn slice_len(&self) -> usize {
        2 * self.coils * self.lines.len() * self.points[1]
    }

    /// The object of slices, where it is known.
    pub fn truth(&self, slices: Range<usize>) -> Option<Vec<f32>> {
        let Kind::Phantom(spec) = &self.kind else { return None };
        let (random, mut drawn) = (Philox::new(self.seed, OBJECT), 0);
        let uniform = || {
            drawn += 1;
            random.uniform(drawn)
        };
        let object = match spec.kind {
            PhantomKind::SheppLogan => Phantom::shepp_logan_3d(),
            PhantomKind::Ellipsoids => Phantom::random_ellipsoids(spec.parts, uniform),
        };
        let n = spec.size;
        Some(object.voxels([self.slices, n, n], slices, SUPERSAMPLE))
    }

    /// Coil maps of slices, `[slice, coil, y, x]`.
    ///
    /// # Errors
    /// Of the file.
    pub fn maps(&self, slices: Range<usize>) -> Result<Option<Vec<Complex32>>> {
        if !self.has_maps {
            return Ok(None);
        }
        match &self.kind {
            Kind::Phantom(spec) => Ok(Some(maps_of(spec.coils, spec.size).repeat(slices.len()))),
            Kind::Scan { path, spec } => {
                let name = spec.maps.as_deref().unwrap_or_default();
                let [ny, nx] = self.points;
                let values = read(path, name, (slices, &[self.coils, ny, nx, 2]))?;
                Ok(Some(values.as_chunks::<2>().0.iter().map(|[re, im]| Complex32::new(*re, *im)).collect()))
            }
        }
    }

    /// The measured lines of slices, `[slice, coil, line, x, 2]`.
    ///
    /// # Errors
    /// Of the file; values that are not finite.
    pub fn measured(&self, slices: Range<usize>) -> Result<Vec<f32>> {
        if slices.is_empty() {
            return Ok(Vec::new());
        }
        let [ny, nx] = self.points;
        let all: Vec<f32> = match &self.kind {
            Kind::Scan { path, spec } => {
                let one = self.coils * ny * nx * 2;
                let shape = [self.coils, ny, nx, 2];
                let file = Reader::open(path)?;
                let shape = if file.shape(&spec.kspace)?.len() == 4 { &shape[1..] } else { &shape[..] };
                let values = read(path, &spec.kspace, (slices.clone(), shape))?;
                if let Some(slice) = values.chunks(one).position(|slice| slice.iter().any(|v| !v.is_finite())) {
                    let slice = slices.start + slice;
                    let bad = NotFinite { path: path.display().to_string(), name: spec.kspace.clone(), slice };
                    return Err(Error::BadData(Box::new(bad)));
                }
                values
            }
            Kind::Phantom(spec) => {
                let image = self.truth(slices.clone()).unwrap_or_default();
                let maps = if spec.coils > 1 { maps_of(spec.coils, spec.size) } else { Vec::new() };
                let transform = Centred::new(self.points);
                let random = Philox::new(self.seed, NOISE);
                let size = ny * nx;
                let see = |(k, image): (usize, &[f32])| -> Vec<f32> {
                    let (slice, coil) = (k / spec.coils, k % spec.coils);
                    let map = maps.get(coil * size..(coil + 1) * size);
                    let at = |i: usize| map.map_or(Complex32::new(1.0, 0.0), |map| map[i]);
                    let mut values: Vec<Complex32> = image.iter().enumerate().map(|(i, v)| at(i) * v).collect();
                    transform.apply(&mut values, false);
                    let first = 2 * (((slices.start + slice) * spec.coils + coil) * size) as u64;
                    let noise = |i: u64| (spec.noise * random.normal(first + i)) as f32;
                    let both = values.iter().zip(0u64..);
                    both.flat_map(|(v, i)| [v.re + noise(2 * i), v.im + noise(2 * i + 1)]).collect()
                };
                let jobs: Vec<(usize, &[f32])> =
                    (0..slices.len() * spec.coils).map(|k| (k, &image[k / spec.coils * size..][..size])).collect();
                jobs.into_par_iter().map(see).collect::<Vec<_>>().concat()
            }
        };
        let row = |k: usize, line: &usize| &all[(k * ny + line) * 2 * nx..][..2 * nx];
        let coils = slices.len() * self.coils;
        Ok((0..coils).flat_map(|k| self.lines.iter().flat_map(move |line| row(k, line))).copied().collect())
    }
}

fn read(path: &std::path::Path, name: &str, (slices, shape): (Range<usize>, &[usize])) -> Result<Vec<f32>> {
    let mut start = vec![0; shape.len() + 1];
    start[0] = slices.start;
    let count: Vec<usize> = std::iter::once(slices.len()).chain(shape.iter().copied()).collect();
    Ok(Reader::open(path)?.read_slab(name, &start, &count)?)
}

/// Maps of coils on a circle around the object: bells with a phase, their squares add to one. `[coil, y, x]`.
fn maps_of(coils: usize, n: usize) -> Vec<Complex32> {
    let at = |i: usize| (2.0 * i as f64 + 1.0) / n as f64 - 1.0;
    let bell = |coil: usize, i: usize| {
        let angle = std::f64::consts::TAU * coil as f64 / coils as f64;
        let (y, x) = (at(i / n) - 1.2 * angle.sin(), at(i % n) - 1.2 * angle.cos());
        num_complex::Complex64::from_polar((-0.5 * (x * x + y * y)).exp(), x * angle.cos() + y * angle.sin() + angle)
    };
    let norms: Vec<f64> =
        (0..n * n).map(|i| (0..coils).map(|coil| bell(coil, i).norm_sqr()).sum::<f64>().sqrt()).collect();
    let all = (0..coils * n * n).map(|k| bell(k / (n * n), k % (n * n)) / norms[k % (n * n)]);
    all.map(|v| Complex32::new(v.re as f32, v.im as f32)).collect()
}
