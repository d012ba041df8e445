//! Where projections come from: a measured scan, or a generated object with exact projections.
//!
//! Either way, a band of rows is a function of the job and of the rows alone: ranks and windows
//! that ask for the same row get the same bits.

use std::ops::Range;

use convoke_cluster::workload::Inputs;
use convoke_cluster::{BadValue, Result};
use convoke_data::formats::data_exchange::{AngleUnit as FileUnit, Scan};
use convoke_data::problems::phantom::Phantom;
use convoke_data::problems::rays::ParallelRays;
use convoke_kernels::Philox;
use rayon::prelude::*;

use super::ScanError;
use super::angles;
use super::cleaning::RingsSpec;
use super::normalise::{self, NormaliseError, NormaliseParams, NormaliseReport, RawBand, WhiteBlocks};
use super::phase::Paganin;
use super::rings::{self, Rings};
use super::spec::{AngleUnit, PhantomKind, PhantomSpec, ScanSpec, Spec};

/// Random streams of this workload.
const STREAM_OBJECT: u64 = 1;
const STREAM_PHOTONS: u64 = 2;
const STREAM_READOUT: u64 = 3;
/// Rows that are checked at once.
pub(super) const BAND: usize = 8;
/// Transmissions that are made at once for phase retrieval.
const AT_ONCE: usize = 1 << 24;

/// Projections, band by band.
#[derive(Debug)]
pub struct Source {
    kind: Kind,
    rings: Option<Rings>,
    /// Angle of each projection.
    pub angles_rad: Vec<f64>,
    /// Detector rows in use; a row is a slice of the volume.
    pub n_rows: usize,
    /// Detector columns.
    pub n_cols: usize,
    /// Length of a detector pixel and its unit.
    pub pixel: (f64, &'static str),
    /// What the user should know about the input.
    pub notes: Vec<String>,
}

#[derive(Debug)]
enum Kind {
    Scan { scan: Box<Scan>, spec: ScanSpec, first_row: usize, phase: Option<Paganin> },
    Phantom { object: Phantom, rays: ParallelRays, photons: Option<Photons>, attenuation: f64, seed: u64 },
}

/// A beam that is counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Photons {
    /// Photons of a ray that nothing attenuates.
    pub count: f64,
    /// −ln T of a projection of value 1.
    pub attenuation: f64,
    /// Standard deviation of the readout, in photons.
    pub readout: f64,
}

/// What is known of the noise of projections.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct NoiseModel {
    /// −ln T of a projection of value 1.
    pub attenuation: f64,
    /// Standard deviation of a ray that nothing attenuates, where it is known.
    pub sigma: Option<f64>,
    /// Standard deviation of the readout, in photons.
    pub readout: f64,
}

impl Photons {
    /// Of a phantom whose voxels of value 1 attenuate so much per unit of length of the projections.
    pub fn of(phantom: &PhantomSpec, attenuation: f64) -> Option<Self> {
        let readout = phantom.readout_counts.unwrap_or(0.0);
        phantom.photons.map(|count| Self { count, attenuation, readout })
    }

    pub fn noise(&self) -> NoiseModel {
        let sigma = (self.count + self.readout.powi(2)).sqrt() / (self.attenuation * self.count);
        NoiseModel { attenuation: self.attenuation, sigma: Some(sigma), readout: self.readout }
    }
}

impl NoiseModel {
    /// Nothing is known of projections of −ln T = `attenuation` times their value.
    pub fn unknown(attenuation: f64) -> Self {
        Self { attenuation, sigma: None, readout: 0.0 }
    }
}

impl Source {
    /// Opens the source and checks its header; reads no projection.
    ///
    /// # Errors
    /// Bad values of the job file, data errors of the scan.
    pub fn open(spec: &Spec, inputs: &Inputs, seed: u64) -> Result<Self> {
        let rings = spec.rings.as_ref().map(RingsSpec::method);
        match (&spec.scan, &spec.phantom) {
            (Some(scan), _) => Self::open_scan(scan, spec, rings, inputs),
            (None, Some(phantom)) => Ok(Self::generate(phantom, rings, seed)),
            (None, None) => unreachable!("Spec::check asks for one source"),
        }
    }

    fn open_scan(spec: &ScanSpec, job: &Spec, rings: Option<Rings>, inputs: &Inputs) -> Result<Self> {
        let scan = Scan::open(inputs.resolve(&spec.file))?;
        let in_file = match scan.theta_unit {
            FileUnit::Degrees => AngleUnit::Degrees,
            FileUnit::Radians => AngleUnit::Radians,
        };
        let unit = spec.angle_unit.unwrap_or(in_file);
        let angles_rad = angles::to_radians(&scan.theta, unit, spec.angle_unit.is_some())
            .map_err(|source| ScanError::at(scan.path(), source))?;
        let (every, all) = (spec.every.unwrap_or(1), angles_rad.len());
        let angles_rad: Vec<f64> = angles_rad.into_iter().step_by(every).collect();
        if angles_rad.len() < 2 {
            let file = scan.path().display();
            return Err(if all < 2 {
                BadValue::wrong("problem.scan.file", format!("{file} has one projection, and two are due")).into()
            } else {
                BadValue::new("problem.scan.every", every, format!("less than the {all} projections of {file}")).into()
            });
        }
        let rows = match spec.rows.as_deref() {
            Some([first, end]) if *end <= scan.n_rows => *first..*end,
            Some(rows) => {
                let expected = format!("within the {} rows of {}", scan.n_rows, scan.path().display());
                return Err(BadValue::new("problem.scan.rows", format!("{rows:?}"), expected).into());
            }
            None => 0..scan.n_rows,
        };
        if let Some(before) = spec.whites_before
            && (before == 0 || before >= scan.n_white)
        {
            let expected =
                format!("at least 1 and less than the {} white frames of {}", scan.n_white, scan.path().display());
            return Err(BadValue::new("problem.scan.whites_before", before, expected).into());
        }
        let phase = match &spec.phase {
            Some(phase) => {
                let blur = phase.blur(spec, job.geometry.as_ref(), scan.n_cols)?;
                Some(Paganin::new(blur, scan.n_rows, scan.n_cols))
            }
            None => None,
        };
        Ok(Self {
            rings,
            angles_rad,
            n_rows: rows.len(),
            n_cols: scan.n_cols,
            pixel: spec.pixel_size_mm.map_or((1.0, "pixel"), |mm| (mm, "mm")),
            notes: scan.notes.clone(),
            kind: Kind::Scan { scan: Box::new(scan), spec: spec.clone(), first_row: rows.start, phase },
        })
    }

    fn generate(spec: &PhantomSpec, rings: Option<Rings>, seed: u64) -> Self {
        let object = object(spec, seed);
        let step = spec.arc_degrees.to_radians() / spec.angles as f64;
        let angles_rad: Vec<f64> = (0..spec.angles).map(|i| step * i as f64).collect();
        let n_rows = spec.rows.unwrap_or(spec.size);
        let mut rays = ParallelRays::centred(angles_rad.clone(), n_rows, spec.size);
        rays.axis_col += spec.axis_shift_pixels;
        Self {
            rings,
            angles_rad,
            n_rows,
            n_cols: spec.size,
            pixel: (1.0, "pixel"),
            notes: Vec::new(),
            kind: Kind::Phantom {
                object,
                rays,
                photons: Photons::of(spec, spec.attenuation_per_voxel),
                attenuation: spec.attenuation_per_voxel,
                seed,
            },
        }
    }

    /// The column that the rotation axis is known to project to, for generated objects.
    pub fn known_axis(&self) -> Option<f64> {
        match &self.kind {
            Kind::Scan { .. } => None,
            Kind::Phantom { rays, .. } => Some(rays.axis_col),
        }
    }

    /// What is known of the noise.
    pub(super) fn noise(&self) -> NoiseModel {
        match &self.kind {
            Kind::Scan { .. } => NoiseModel::unknown(1.0),
            Kind::Phantom { photons: Some(photons), .. } => photons.noise(),
            Kind::Phantom { photons: None, attenuation, .. } => NoiseModel::unknown(*attenuation),
        }
    }

    /// The object itself, for generated ones: slices `rows` of `[n_rows, n, n]` voxels of one
    /// detector pixel each, every voxel the mean of 3³ points.
    pub fn truth(&self, rows: Range<usize>) -> Option<Vec<f32>> {
        match &self.kind {
            Kind::Scan { .. } => None,
            Kind::Phantom { object, .. } => Some(object.voxels([self.n_rows, self.n_cols, self.n_cols], rows, 3)),
        }
    }

    /// Bytes that [`Source::projections`] holds for one row of so many projections besides what it returns.
    pub fn overhead_per_row(&self, angles: usize) -> u64 {
        let row = (angles * self.n_cols * 4) as u64;
        match &self.kind {
            Kind::Scan { scan, spec, .. } => {
                row * 2 * spec.every.unwrap_or(1) as u64 - row + ((scan.n_white + scan.n_dark) * self.n_cols * 4) as u64
            }
            Kind::Phantom { .. } => 0,
        }
    }

    /// Bytes that [`Source::projections`] holds however few rows it is asked for: projections that are filtered, one for each thread.
    pub fn overhead(&self, threads: usize) -> u64 {
        match &self.kind {
            Kind::Scan { scan, spec, phase: Some(phase), .. } => {
                let line = (phase.most_rows() * scan.n_cols) as u64;
                let frames = phase_angles(phase, scan, self.angles_rad.len()) as u64;
                let raw = frames * spec.every.unwrap_or(1) as u64 + (scan.n_white + scan.n_dark) as u64;
                4 * line * (2 * raw + 2 * frames) + threads as u64 * (phase.image_bytes() + 16 * line)
            }
            _ => 0,
        }
    }

    /// Reads rows for their errors alone, a few at a time, with those that their cleaning needs beside them, and counts what was repaired.
    ///
    /// # Errors
    /// As [`Source::projections`].
    pub fn check(&self, rows: Range<usize>) -> Result<NormaliseReport> {
        let mut sum = NormaliseReport::default();
        let Kind::Scan { scan, spec, first_row, phase } = &self.kind else { return Ok(sum) };
        if rows.is_empty() {
            return Ok(sum);
        }
        let mine = first_row + rows.start..first_row + rows.end;
        let all = match phase {
            Some(phase) => {
                let halos = phase.tiles(&mine).map(|tile| tile.halo);
                halos.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or_default()
            }
            None => mine.clone(),
        };
        for first in all.clone().step_by(BAND) {
            let band = first..all.end.min(first + BAND);
            let (_, reports) = self.transmissions(scan, spec, band.clone(), 0..self.angles_rad.len())?;
            let counted = band.zip(&reports).filter(|(row, _)| mine.contains(row));
            counted.for_each(|(_, report)| sum.add(report));
        }
        Ok(sum)
    }

    /// Rows that should be read together, for the work that they share.
    pub fn rows_together(&self) -> usize {
        match &self.kind {
            Kind::Scan { phase: Some(phase), .. } => phase.tile_rows(),
            _ => BAND,
        }
    }

    /// Whether the cleaning of a projection looks at others: rings are what all angles share.
    pub fn needs_all_angles(&self) -> bool {
        self.rings.is_some()
    }

    /// Some projections of a measured scan, as in [`Source::projections`], where cleaning allows it; nothing for a generated object.
    ///
    /// # Errors
    /// As [`Source::projections`].
    pub fn some_measured(&self, rows: Range<usize>, angles: Range<usize>) -> Result<Vec<f32>> {
        match &self.kind {
            Kind::Scan { first_row, .. } => Ok(self.measured(first_row + rows.start..first_row + rows.end, angles)?.0),
            Kind::Phantom { .. } => Ok(Vec::new()),
        }
    }

    /// Line integrals `−ln T` of a band of rows, `[rows, n_angles, n_cols]`, cleaned as the job
    /// asks.
    ///
    /// # Errors
    /// Data errors: counts that are not finite, white fields that are dark.
    pub fn projections(&self, rows: Range<usize>) -> Result<(Vec<f32>, NormaliseReport)> {
        let n_rows = rows.len();
        if n_rows == 0 {
            return Ok(Default::default());
        }
        let (mut data, report) = match &self.kind {
            Kind::Scan { first_row, .. } => {
                self.measured(first_row + rows.start..first_row + rows.end, 0..self.angles_rad.len())?
            }
            Kind::Phantom { object, rays, photons, seed, .. } => {
                let mut data = object.line_integrals(rays, rows.clone());
                // From units of the half width to detector pixels.
                let pixels = self.n_cols as f32 / 2.0;
                data.iter_mut().for_each(|p| *p *= pixels);
                if let Some(photons) = photons {
                    let first = rows.start * self.angles_rad.len() * self.n_cols;
                    count_photons(&mut data, |i| (first + i) as u64, photons, *seed);
                }
                (data, NormaliseReport::default())
            }
        };
        if let Some(rings) = self.rings {
            let attenuation = self.noise().attenuation;
            let sinogram = self.angles_rad.len() * self.n_cols;
            data.par_chunks_mut(sinogram).for_each(|row| rings::remove(row, self.n_cols, rings, attenuation));
        }
        Ok((data, report))
    }

    /// Line integrals of some projections, rows counted on the detector: `[rows, angles, n_cols]`.
    fn measured(&self, rows: Range<usize>, angles: Range<usize>) -> Result<(Vec<f32>, NormaliseReport)> {
        let Kind::Scan { scan, spec, phase, .. } = &self.kind else { return Ok(Default::default()) };
        let (mut data, report) = match phase {
            None => {
                let (data, reports) = self.transmissions(scan, spec, rows, angles)?;
                let mut report = NormaliseReport::default();
                reports.iter().for_each(|row| report.add(row));
                (data, report)
            }
            Some(phase) => self.retrieved(scan, spec, phase, rows, angles)?,
        };
        data.par_iter_mut().for_each(|t| *t = -t.ln());
        Ok((data, report))
    }

    /// exp(−μ t) by phase retrieval, tile by tile and some projections at a time.
    fn retrieved(
        &self,
        scan: &Scan,
        spec: &ScanSpec,
        phase: &Paganin,
        rows: Range<usize>,
        angles: Range<usize>,
    ) -> Result<(Vec<f32>, NormaliseReport)> {
        let n_cols = scan.n_cols;
        let least = spec.min_transmission as f32;
        let mut out = vec![0.0; rows.len() * angles.len() * n_cols];
        let mut sum = NormaliseReport::default();
        for tile in phase.tiles(&rows) {
            let (start, halo) = (tile.rows.start, tile.halo.clone());
            let mine = start.max(rows.start)..tile.rows.end.min(rows.end);
            let step = phase_angles(phase, scan, angles.len());
            for first in angles.clone().step_by(step) {
                let some = first..angles.end.min(first + step);
                let (data, reports) = self.transmissions(scan, spec, halo.clone(), some.clone())?;
                for (_, report) in halo.clone().zip(&reports).filter(|(row, _)| mine.contains(row)) {
                    // A dead pixel is so in all projections.
                    let dead_pixels = if first == angles.start { report.dead_pixels } else { 0 };
                    sum.add(&NormaliseReport { dead_pixels, ..*report });
                }
                let images = some.clone().into_par_iter().map(|angle| {
                    let line = |row: usize| &data[(row * some.len() + angle - some.start) * n_cols..][..n_cols];
                    let image: Vec<f64> = (0..halo.len()).flat_map(line).map(|t| f64::from(*t)).collect();
                    let found = &tile.retrieve(&image)[(mine.start - start) * n_cols..(mine.end - start) * n_cols];
                    found.iter().map(|t| (*t as f32).max(least)).collect::<Vec<f32>>()
                });
                let images: Vec<Vec<f32>> = images.collect();
                for (angle, image) in some.zip(&images) {
                    for (row, line) in mine.clone().zip(image.chunks(n_cols)) {
                        let place = (row - rows.start) * angles.len() + angle - angles.start;
                        out[place * n_cols..][..n_cols].copy_from_slice(line);
                    }
                }
            }
        }
        Ok((out, sum))
    }

    /// Transmissions of some projections, rows counted on the detector, and what was repaired in each row.
    fn transmissions(
        &self,
        scan: &Scan,
        spec: &ScanSpec,
        rows: Range<usize>,
        angles: Range<usize>,
    ) -> Result<(Vec<f32>, Vec<NormaliseReport>)> {
        // With those between, where not all are used: one contiguous read.
        let every = spec.every.unwrap_or(1);
        let angles = angles.start * every..((angles.end - 1) * every + 1).min(scan.n_angles);
        let raw = scan.read_part(rows.clone(), angles.clone())?;
        let band = RawBand {
            projections: &raw.projections,
            white: &raw.white,
            dark: &raw.dark,
            shape: [angles.len(), rows.len(), scan.n_cols],
            first_row: rows.start,
            angles: (angles.start, scan.n_angles),
        };
        let params = NormaliseParams {
            whites: spec.whites_before.map_or(WhiteBlocks::Mean, |n_before| WhiteBlocks::BeforeAfter { n_before }),
            min_transmission: spec.min_transmission as f32,
            hot_threshold: Some(spec.hot_threshold as f32),
            ..NormaliseParams::default()
        };
        let (data, reports) = normalise::transmissions(&band, &params)
            .map_err(|source| ScanError::at(scan.path(), self.beside(source)))?;
        if every == 1 {
            return Ok((data, reports));
        }
        let of_row = |row: &[f32]| row.chunks(scan.n_cols).step_by(every).flatten().copied().collect::<Vec<f32>>();
        Ok((data.chunks(angles.len() * scan.n_cols).flat_map(of_row).collect(), reports))
    }

    /// A row that nobody asked for, but phase retrieval needs, is told so.
    fn beside(&self, error: NormaliseError) -> NormaliseError {
        match (&self.kind, error) {
            (Kind::Scan { first_row, phase: Some(phase), .. }, NormaliseError::NoBeam { row })
                if !(*first_row..first_row + self.n_rows).contains(&row) =>
            {
                NormaliseError::NoBeamBeside { row, reach: phase.reach()[0] }
            }
            (_, error) => error,
        }
    }
}

/// Projections whose phase is retrieved at once.
fn phase_angles(phase: &Paganin, scan: &Scan, all: usize) -> usize {
    (AT_ONCE / (phase.most_rows() * scan.n_cols).max(1)).clamp(1, all.max(1))
}

/// The generated object.
pub(super) fn object(spec: &PhantomSpec, seed: u64) -> Phantom {
    let random = Philox::new(seed, STREAM_OBJECT);
    let mut index = 0;
    let uniform = || {
        index += 1;
        random.uniform(index)
    };
    match spec.kind {
        PhantomKind::SheppLogan => Phantom::shepp_logan_3d(),
        PhantomKind::Ellipsoids => Phantom::random_ellipsoids(spec.parts, uniform),
        PhantomKind::Foam => Phantom::foam(spec.parts, uniform),
    }
}

/// Photon counts of a beam that the object attenuates, and back to line integrals.
///
/// The noise of a pixel is keyed by its global index (row, angle, column): `index` of its place in `data`.
pub(super) fn count_photons(data: &mut [f32], index: impl Fn(usize) -> u64 + Sync, photons: &Photons, seed: u64) {
    let Photons { count: photons, attenuation, readout } = *photons;
    let (random, noise) = (Philox::new(seed, STREAM_PHOTONS), Philox::new(seed, STREAM_READOUT));
    data.par_iter_mut().enumerate().for_each(|(i, p)| {
        let mean = photons * (-f64::from(*p) * attenuation).exp();
        // A pixel without a photon counts as half of one.
        let mut count = random.poisson(index(i), mean) as f64;
        if readout > 0.0 {
            count += readout * noise.normal(index(i));
        }
        let count = count.max(0.5);
        *p = ((photons / count).ln() / attenuation) as f32;
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoke_data::store::Writer;

    const SHAPE: [usize; 3] = [12, 2, 16];

    fn source(dir: &std::path::Path, more: &str) -> Source {
        let text = format!("[scan]\nfile = \"scan.h5\"\nwhites_before = 1\n{more}\n[method]\nalgorithm = \"fbp\"\n");
        let spec: Spec = toml::from_str(&text).expect("a problem");
        Source::open(&spec, &Inputs { base: dir.to_owned() }, 0).expect("a scan")
    }

    /// Parts of a scan whose beam decays, so that white frames count by where a projection lies between them, and every fifth projection
    /// alone: the same bits as all of them.
    #[test]
    fn some_projections_are_those_of_all() {
        let dir = tempfile::tempdir().expect("a folder");
        let [angles, rows, cols] = SHAPE;
        let counts = |n: usize, high: f32| -> Vec<f32> {
            (0..n * rows * cols).map(|i| high - 37.0 * (i * 7 % 13) as f32).collect()
        };
        let mut file = Writer::create(dir.path().join("scan.h5")).expect("a file");
        let white = [counts(1, 2000.0), counts(1, 1500.0)].concat();
        let theta: Vec<f64> = (0..angles).map(|i| 15.0 * i as f64).collect();
        file.whole("/exchange/data", &SHAPE, &counts(angles, 900.0)).expect("written");
        file.whole("/exchange/data_white", &[2, rows, cols], &white).expect("written");
        file.whole("/exchange/data_dark", &[1, rows, cols], &vec![100f32; rows * cols]).expect("written");
        file.whole("/exchange/theta", &[angles], &theta).expect("written");
        file.commit_replace().expect("committed");
        let whole = source(dir.path(), "");
        let (all, _) = whole.projections(0..rows).expect("projections");
        let picked = |which: &[usize]| -> Vec<f32> {
            let line = |row: usize, angle: &usize| &all[(row * angles + angle) * cols..][..cols];
            (0..rows).flat_map(|row| which.iter().flat_map(move |angle| line(row, angle))).copied().collect()
        };
        assert!(all.iter().any(|v| *v != all[0]));
        assert_eq!(whole.some_measured(0..rows, 3..7).expect("projections"), picked(&[3, 4, 5, 6]));
        let fifth = source(dir.path(), "every = 5");
        assert_eq!(fifth.projections(0..rows).expect("projections").0, picked(&[0, 5, 10]));
        assert_eq!(fifth.some_measured(0..rows, 1..3).expect("projections"), picked(&[5, 10]));
        assert_eq!(fifth.angles_rad, [0, 5, 10].map(|i| whole.angles_rad[i]));
    }

    /// A scan whose transmissions are those of a bump in exp(−μ t) after propagation, without noise: retrieved to the rounding of counts in f32,
    /// with the same bits however rows and projections are asked for; the row beside those in use is needed as well.
    #[test]
    fn phase_is_retrieved_with_the_same_bits_for_any_rows() {
        let dir = tempfile::tempdir().expect("a folder");
        let [angles, rows, cols] = [4, 140, 40];
        // ℓ = 1.5 pixels of 1 µm: ℓ² = 1e-7 mm · z · 100 / 4π.
        let (ell, s) = (1.5f64, 2.5f64);
        let distance = ell * ell * 1e-6 * 4.0 * std::f64::consts::PI / (1e-7 * 100.0);
        let bump = |i: usize| {
            let (angle, row, col) = (i / cols / rows, i / cols % rows, i % cols);
            let r2 = (row as f64 - 68.0 - angle as f64).powi(2) + (col as f64 - 19.3).powi(2);
            (r2, 0.4 * (-r2 / (2.0 * s * s)).exp())
        };
        let counts = |i: usize| {
            let (r2, g) = bump(i);
            let t = 1.0 - g + ell * ell * (r2 / s.powi(4) - 2.0 / (s * s)) * g;
            (100.0 + 60_000.0 * t) as f32
        };
        let data: Vec<f32> = (0..angles * rows * cols).map(counts).collect();
        let mut file = Writer::create(dir.path().join("scan.h5")).expect("a file");
        file.whole("/exchange/data", &[angles, rows, cols], &data).expect("written");
        file.whole("/exchange/data_white", &[2, rows, cols], &vec![60_100f32; 2 * rows * cols]).expect("written");
        file.whole("/exchange/data_dark", &[1, rows, cols], &vec![100f32; rows * cols]).expect("written");
        file.whole("/exchange/theta", &[angles], &[0.0, 45.0, 90.0, 135.0]).expect("written");
        file.commit_replace().expect("committed");
        let phase = format!(
            "pixel_size_mm = 0.001\n[scan.phase]\nwavelength_nm = 0.1\ndistance_mm = {distance}\ndelta_over_beta = 100.0\n"
        );
        let whole = source(dir.path(), &phase);
        let (all, report) = whole.projections(0..rows).expect("projections");
        assert_eq!(report, NormaliseReport::default());
        for (i, p) in all.iter().enumerate() {
            let (row, angle, col) = (i / cols / angles, i / cols % angles, i % cols);
            let exact = -(1.0 - bump((angle * rows + row) * cols + col).1).ln();
            assert!((f64::from(*p) - exact).abs() < 1e-6, "{row} {angle} {col}: {p} {exact}");
        }
        let line = angles * cols;
        for part in [0..1, 3..90, 69..72, 139..140] {
            let (some, _) = whole.projections(part.clone()).expect("projections");
            assert!(some == all[part.start * line..part.end * line], "rows {part:?}");
        }
        let used = source(dir.path(), &format!("rows = [60, 75]\n{phase}"));
        assert!(used.projections(0..15).expect("projections").0 == all[60 * line..75 * line]);
        let of = |row: usize, angle: usize| &all[(row * angles + angle) * cols..][..cols];
        assert_eq!(whole.some_measured(70..71, 1..3).expect("projections"), [of(70, 1), of(70, 2)].concat());
        let second = source(dir.path(), &format!("every = 2\n{phase}"));
        assert_eq!(second.projections(70..71).expect("projections").0, [of(70, 0), of(70, 2)].concat());
        whole.check(3..5).expect("a good scan");
    }
}
