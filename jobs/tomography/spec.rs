//! `[problem]` of a tomography job: what the user types, and the checks of single values.

use std::path::PathBuf;

use convoke_cluster::BadValue;
use convoke_kernels::{FilterWindow, Footprint};
use serde::{Deserialize, Serialize};

use super::cleaning::{PhaseSpec, RingsSpec};
use super::cone::spec::{GeometryKind, GeometrySpec, check_geometry};
use super::views::{self, ViewsSpec};
use crate::inverse::diffusion::{DiffusionSpec, Method};
use crate::inverse::tv::{Choice, Minimiser, VariationSpec};

/// `[problem]`: one source of projections, how to clean them, what to reconstruct and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// A measured scan in a file; this or `phantom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<ScanSpec>,
    /// A generated object with exact projections; this or `scan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phantom: Option<PhantomSpec>,
    /// Beams from a point; absent: parallel beams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geometry: Option<GeometrySpec>,
    /// Where the rotation axis projects to.
    #[serde(default)]
    pub centre: CentreSpec,
    /// Removal of ring artefacts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rings: Option<RingsSpec>,
    /// The grid to reconstruct on.
    #[serde(default)]
    pub volume: VolumeSpec,
    /// The algorithm.
    pub method: MethodSpec,
}

/// A scan in Data Exchange HDF5.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanSpec {
    /// The file; relative to the job file.
    pub file: PathBuf,
    /// Unit of `theta`; absent: as the file says, degrees by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub angle_unit: Option<AngleUnit>,
    /// Detector pixel in mm; absent: lengths are in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixel_size_mm: Option<f64>,
    /// First and last-plus-one detector row to use; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Vec<usize>>,
    /// Every so many projections one is used; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<usize>,
    /// How many of the white frames were taken before the scan, the others after it; absent: mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whites_before: Option<usize>,
    /// Transmissions below this are clipped before the logarithm.
    #[serde(default = "defaults::min_transmission")]
    pub min_transmission: f64,
    /// A pixel whose transmission differs from the median of its neighbours by more is hot.
    #[serde(default = "defaults::hot_threshold")]
    pub hot_threshold: f64,
    /// Phase retrieval from propagation; absent: attenuation alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<PhaseSpec>,
}

/// Unit of rotation angles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AngleUnit {
    /// 360 per turn.
    Degrees,
    /// 2π per turn.
    Radians,
}

/// A generated object, measured without or with photon noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhantomSpec {
    /// Which object.
    pub kind: PhantomKind,
    /// Detector columns, and voxels along x and y.
    pub size: usize,
    /// Detector rows, and slices; absent: `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// Detector columns where beams come from a point; absent: `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<usize>,
    /// Number of projections.
    pub angles: usize,
    /// Range of the rotation in degrees.
    #[serde(default = "defaults::arc_degrees")]
    pub arc_degrees: f64,
    /// Shift of the rotation axis from the detector's middle, in pixels.
    #[serde(default)]
    pub axis_shift_pixels: f64,
    /// Number of parts (random ellipsoids, bubbles).
    #[serde(default = "defaults::parts")]
    pub parts: usize,
    /// Photons per pixel without sample; absent: no noise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub photons: Option<f64>,
    /// Standard deviation of the detector's readout, in photons; absent: 0. With `photons`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readout_counts: Option<f64>,
    /// Attenuation of a voxel of value 1, which sets the contrast of the noise.
    #[serde(default = "defaults::attenuation")]
    pub attenuation_per_voxel: f64,
}

/// Generated objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhantomKind {
    /// The 3-D Shepp–Logan head with modified contrast.
    SheppLogan,
    /// A shell with random ellipsoids in it.
    Ellipsoids,
    /// A ball with bubbles.
    Foam,
}

/// Where the rotation axis projects to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CentreSpec {
    /// Detector column (0-based, pixel centres); absent: found for a scan, known for a phantom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<f64>,
    /// Find it even for a phantom.
    #[serde(default)]
    pub find: bool,
}

/// The grid: `size` x `size` voxels in each slice.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeSpec {
    /// Voxels along x and y; absent: the number of detector columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// Voxel in detector pixels; absent: 1. Parallel beams only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voxel_pixels: Option<f64>,
    /// Slices; absent: the number of detector rows. With [problem.geometry] only, and so below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slices: Option<usize>,
    /// Voxel in mm; absent: a pixel's width, as it is at the rotation axis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voxel_mm: Option<f64>,
    /// Centre of the volume (x, y, z) in mm; absent: the origin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub centre_mm: Option<[f64; 3]>,
}

/// The algorithm and its parameters; those that it does not have are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodSpec {
    /// Which.
    pub algorithm: Algorithm,
    /// Weights of the projector; absent: `linear` for fbp and cone beams, `joseph` for the others. Not for fdk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projector: Option<ProjectorKind>,
    /// Window of the ramp filter (fbp, fdk); absent: `ram-lak`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<FilterKind>,
    /// Where the window ends, as a part of the Nyquist frequency (fbp, fdk); absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutoff: Option<f64>,
    /// Continue truncated projections with their edge values before filtering (fbp, fdk).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad_edges: Option<bool>,
    /// Number of iterations (all but fbp and fdk).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<u64>,
    /// Number of subsets of the angles (os-sart, osem).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subsets: Option<usize>,
    /// Relaxation (sirt, os-sart); absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relaxation: Option<f64>,
    /// Keep the image at or above 0 (sirt, os-sart, fista-tv, admm-tv, pdhg; mlem and osem always do).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub non_negative: Option<bool>,
    /// Reconstruct only inside this part of the inscribed circle's radius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_radius: Option<f64>,
    /// Weights of the measured values; absent: all the same (lsqr, fista-tv, admm-tv, pdhg).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightsKind>,
    /// Standard deviation of the detector's readout, in photons (with weights); absent: that of the phantom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readout_counts: Option<f64>,
    /// Total variation (fista-tv, admm-tv, pdhg).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variation: Option<VariationSpec>,
    /// Standard deviation of the projections' noise: a slice stops once its residual is as small
    /// (discrepancy principle; sirt, cgls, os-sart; the volume for lsqr, of a ray that nothing attenuates where there are weights).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<f64>,
    /// A denoiser as prior (dds, diffusion-mbir, red-diff).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diffusion: Option<DiffusionSpec>,
    /// Views that are chosen (dds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub views: Option<ViewsSpec>,
}

/// Reconstruction algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// Filtered back projection of parallel beams.
    Fbp,
    /// Filtered back projection of cone beams (Feldkamp, Davis and Kress).
    Fdk,
    /// Simultaneous iterative reconstruction.
    Sirt,
    /// Conjugate gradients on the normal equations.
    Cgls,
    /// Ordered-subsets SART.
    OsSart,
    /// Maximum likelihood, expectation maximisation.
    Mlem,
    /// Its ordered-subsets form.
    Osem,
    /// Conjugate gradients on the normal equations of the whole volume, as Paige and Saunders do it.
    Lsqr,
    /// Decomposed diffusion: a denoiser of slices as prior.
    Dds,
    /// Predictor and corrector of a diffusion, with data steps.
    DiffusionMbir,
    /// A volume that denoising leaves alone.
    RedDiff,
    /// Total variation by proximal gradients with momentum.
    FistaTv,
    /// Total variation by alternating directions.
    AdmmTv,
    /// Total variation by primal and dual steps.
    Pdhg,
}

/// Weights of the measured values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightsKind {
    /// Inverse variances of the noise of photons and of the readout: without that, the transmissions.
    Poisson,
}

/// Weights of the projector and its adjoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProjectorKind {
    /// Voxel-driven, linear; the shadows of voxels in a cone beam.
    Linear,
    /// Joseph's, ray-driven.
    Joseph,
}

/// Windows of the ramp filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilterKind {
    /// None.
    RamLak,
    /// sinc.
    SheppLogan,
    /// cosine.
    Cosine,
    /// Hamming.
    Hamming,
    /// Hann.
    Hann,
}

mod defaults {
    pub fn min_transmission() -> f64 {
        1e-4
    }
    pub fn hot_threshold() -> f64 {
        0.3
    }
    pub fn arc_degrees() -> f64 {
        180.0
    }
    pub fn parts() -> usize {
        40
    }
    pub fn attenuation() -> f64 {
        0.02
    }
}

impl From<ProjectorKind> for Footprint {
    fn from(kind: ProjectorKind) -> Self {
        match kind {
            ProjectorKind::Linear => Self::Linear,
            ProjectorKind::Joseph => Self::Joseph,
        }
    }
}

impl From<FilterKind> for FilterWindow {
    fn from(kind: FilterKind) -> Self {
        match kind {
            FilterKind::RamLak => Self::RamLak,
            FilterKind::SheppLogan => Self::SheppLogan,
            FilterKind::Cosine => Self::Cosine,
            FilterKind::Hamming => Self::Hamming,
            FilterKind::Hann => Self::Hann,
        }
    }
}

impl Algorithm {
    /// Whether it works through all angles in one step and is then done.
    pub fn is_direct(self) -> bool {
        matches!(self, Self::Fbp | Self::Fdk)
    }

    /// Whether it goes through subsets of the angles.
    pub fn has_subsets(self) -> bool {
        matches!(self, Self::OsSart | Self::Osem)
    }

    /// Whether it takes the whole volume as one problem, in memory.
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Lsqr) || self.minimiser().is_some() || self.prior().is_some()
    }

    /// How it uses a denoiser, if it does.
    pub fn prior(self) -> Option<Method> {
        match self {
            Self::Dds => Some(Method::Dds),
            Self::DiffusionMbir => Some(Method::DiffusionMbir),
            Self::RedDiff => Some(Method::RedDiff),
            _ => None,
        }
    }

    /// How it minimises total variation, if it does.
    pub fn minimiser(self) -> Option<Minimiser> {
        match self {
            Self::FistaTv => Some(Minimiser::Fista),
            Self::AdmmTv => Some(Minimiser::Admm),
            Self::Pdhg => Some(Minimiser::Pdhg),
            _ => None,
        }
    }

    /// Whether it multiplies, so that the image stays non-negative and data must be.
    pub fn is_multiplicative(self) -> bool {
        matches!(self, Self::Mlem | Self::Osem)
    }
}

impl MethodSpec {
    /// The projector's weights.
    pub fn footprint(&self) -> Footprint {
        let default = if self.algorithm.is_direct() { ProjectorKind::Linear } else { ProjectorKind::Joseph };
        self.projector.unwrap_or(default).into()
    }

    /// Number of subsets, 1 where the algorithm has none.
    pub fn n_subsets(&self) -> usize {
        if self.algorithm.has_subsets() { self.subsets.unwrap_or(8) } else { 1 }
    }

    /// Number of iterations.
    pub fn n_iterations(&self) -> u64 {
        match self.algorithm.prior() {
            Some(method) => {
                let diffusion = self.diffusion.clone().unwrap_or_default();
                let views = self.views.as_ref().map(|views| views.steps(diffusion.level_count(method)));
                views.unwrap_or(diffusion.steps(method))
            }
            None if self.algorithm.is_direct() => 1,
            None => self.iterations.unwrap_or(20),
        }
    }

    /// Steps of the job: with each weight that is tried as many iterations.
    pub fn n_steps(&self) -> u64 {
        self.n_iterations().saturating_mul(self.variation.as_ref().map_or(1, VariationSpec::candidates))
    }
}

impl Spec {
    /// Checks every value that can be checked without opening a file.
    ///
    /// # Errors
    /// The first bad value, with its key.
    pub fn check(&self) -> Result<(), BadValue> {
        match (&self.scan, &self.phantom) {
            (None, None) => {
                let bad = BadValue::wrong(
                    "problem",
                    "no source of projections; expected [problem.scan] or [problem.phantom]",
                );
                return Err(bad.help("[problem.scan] reads a file, [problem.phantom] generates an object"));
            }
            (Some(_), Some(_)) => {
                let bad = BadValue::wrong("problem.phantom", "a second source of projections beside [problem.scan]");
                return Err(bad.help("remove the one that you do not mean"));
            }
            (Some(scan), None) => check_scan(scan)?,
            (None, Some(phantom)) => {
                // A helix has many turns.
                let turns = self.geometry.as_ref().is_some_and(|g| g.kind == GeometryKind::Helical);
                check_phantom(phantom, if turns { 36_000.0 } else { 360.0 })?;
            }
        }
        if let Some(rings) = &self.rings {
            rings.check()?;
        }
        check_geometry(self)?;
        if let Some(size) = self.volume.size {
            within("problem.volume.size", size as f64, 1.0, 65_536.0)?;
        }
        if let Some(voxel) = self.volume.voxel_pixels {
            within("problem.volume.voxel_pixels", voxel, 0.05, 20.0)?;
        }
        views::check(self)?;
        check_method(&self.method, self.phantom.as_ref())
    }
}

pub(super) fn within(key: &str, value: f64, low: f64, high: f64) -> Result<(), BadValue> {
    if value >= low && value <= high { Ok(()) } else { Err(BadValue::new(key, value, format!("{low} to {high}"))) }
}

fn check_scan(scan: &ScanSpec) -> Result<(), BadValue> {
    if scan.file.as_os_str().is_empty() {
        return Err(BadValue::new("problem.scan.file", "\"\"", "the path of a Data Exchange file (.h5)"));
    }
    if let Some(pixel) = scan.pixel_size_mm {
        within("problem.scan.pixel_size_mm", pixel, 1e-9, 1e3)?;
    }
    if let Some(rows) = &scan.rows
        && !(rows.len() == 2 && rows[0] < rows[1])
    {
        return Err(BadValue::new("problem.scan.rows", format!("{rows:?}"), "[first, last + 1] with first < last + 1"));
    }
    if let Some(every) = scan.every {
        within("problem.scan.every", every as f64, 1.0, 1e6)?;
    }
    within("problem.scan.min_transmission", scan.min_transmission, 1e-12, 0.5)?;
    within("problem.scan.hot_threshold", scan.hot_threshold, 1e-3, 1e6)?;
    scan.phase.as_ref().map_or(Ok(()), PhaseSpec::check)
}

fn check_phantom(phantom: &PhantomSpec, most_degrees: f64) -> Result<(), BadValue> {
    within("problem.phantom.size", phantom.size as f64, 2.0, 65_536.0)?;
    within("problem.phantom.rows", phantom.rows.unwrap_or(phantom.size) as f64, 1.0, 65_536.0)?;
    within("problem.phantom.angles", phantom.angles as f64, 2.0, 1_000_000.0)?;
    within("problem.phantom.arc_degrees", phantom.arc_degrees, 1.0, most_degrees)?;
    let half = phantom.size as f64 / 2.0;
    within("problem.phantom.axis_shift_pixels", phantom.axis_shift_pixels, -half, half)?;
    within("problem.phantom.parts", phantom.parts as f64, 0.0, 100_000.0)?;
    within("problem.phantom.attenuation_per_voxel", phantom.attenuation_per_voxel, 1e-9, 10.0)?;
    if let Some(readout) = phantom.readout_counts {
        within("problem.phantom.readout_counts", readout, 0.0, 1e9)?;
        if phantom.photons.is_none() {
            return Err(BadValue::wrong("problem.phantom.readout_counts", "goes with photons, which is not there"));
        }
    }
    match phantom.photons {
        Some(photons) => within("problem.phantom.photons", photons, 1.0, 1e15),
        None => Ok(()),
    }
}

fn check_method(method: &MethodSpec, phantom: Option<&PhantomSpec>) -> Result<(), BadValue> {
    use Algorithm as A;
    let a = method.algorithm;
    let minimiser = a.minimiser();
    let discrepancy = method.variation.as_ref().and_then(VariationSpec::choice) == Some(Choice::Discrepancy);
    let relaxed = matches!(a, A::Sirt | A::OsSart);
    let foreign = [
        ("filter", method.filter.is_some() && !a.is_direct()),
        ("cutoff", method.cutoff.is_some() && !a.is_direct()),
        ("pad_edges", method.pad_edges.is_some() && !a.is_direct()),
        ("iterations", method.iterations.is_some() && (a.is_direct() || a.prior().is_some())),
        ("diffusion", method.diffusion.is_some() && a.prior().is_none()),
        ("subsets", method.subsets.is_some() && !a.has_subsets()),
        ("relaxation", method.relaxation.is_some() && !relaxed),
        ("non_negative", method.non_negative.is_some() && !(relaxed || minimiser.is_some())),
        ("variation", method.variation.is_some() && minimiser.is_none()),
        (
            "noise",
            method.noise.is_some()
                && !(relaxed
                    || matches!(a, A::Cgls | A::Lsqr)
                    || a.prior().is_some()
                    || method.weights.is_some()
                    || discrepancy),
        ),
        ("weights", method.weights.is_some() && !a.is_whole()),
    ];
    if let Some((key, _)) = foreign.iter().find(|(_, there)| *there) {
        let name = serde_json::to_value(a).unwrap_or_default();
        let bad = BadValue::foreign(format!("problem.method.{key}"), format!("algorithm {name}"));
        return Err(bad.help("remove the line, or choose an algorithm that has it (jobs/tomography/README.md)"));
    }
    if let Some(kind) = a.prior() {
        let diffusion = method.diffusion.clone().unwrap_or_default();
        diffusion.check(kind)?;
        diffusion.check_noise(method.noise.is_some() || phantom.is_some_and(|p| p.photons.is_some()))?;
    }
    if let Some(minimiser) = minimiser {
        let name = serde_json::to_value(a).unwrap_or_default();
        let Some(variation) = &method.variation else {
            let bad = BadValue::wrong("problem.method", format!("algorithm {name} needs [problem.method.variation]"));
            return Err(bad.help("[problem.method.variation] has at least its weight"));
        };
        variation.check("problem.method.variation", minimiser, &name.to_string())?;
        let photons = phantom.is_some_and(|p| p.photons.is_some());
        if variation.choice() == Some(Choice::Discrepancy) && method.noise.is_none() && !photons {
            let bad = BadValue::wrong("problem.method.variation.weight", "\"discrepancy\" needs to know the noise");
            return Err(bad.help("give problem.method.noise, the standard deviation of the projections"));
        }
    }
    if let Some(readout) = method.readout_counts {
        let key = "problem.method.readout_counts";
        within(key, readout, 0.0, 1e9)?;
        if method.weights.is_none() {
            return Err(BadValue::wrong(key, "goes with weights = \"poisson\", which is not there"));
        }
        if method.noise.is_none() && phantom.is_none_or(|p| p.photons.is_none()) {
            let bad = BadValue::wrong(key, "says nothing as long as the number of photons is unknown");
            return Err(bad.help("give problem.method.noise, the standard deviation where nothing attenuates"));
        }
    }
    if let Some(cutoff) = method.cutoff {
        within("problem.method.cutoff", cutoff, 0.01, 1.0)?;
    }
    within("problem.method.iterations", method.n_iterations() as f64, 1.0, 1e7)?;
    within("problem.method.subsets", method.n_subsets() as f64, 1.0, 1e5)?;
    if let Some(relaxation) = method.relaxation {
        within("problem.method.relaxation", relaxation, 1e-3, 1.99)?;
    }
    if let Some(radius) = method.mask_radius {
        within("problem.method.mask_radius", radius, 0.01, 1.5)?;
    }
    match method.noise {
        Some(noise) => within("problem.method.noise", noise, 1e-12, 1e6),
        None => Ok(()),
    }
}
