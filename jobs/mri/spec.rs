//! `[problem]` of a job of magnetic resonance imaging: what the user types.

use std::path::PathBuf;

use convoke_cluster::BadValue;
use serde::{Deserialize, Serialize};

use crate::inverse::diffusion::{DiffusionSpec, Method};
use crate::inverse::tv::{Choice, Minimiser, TvParams, VariationSpec};

/// `[problem]`: one source of k-space, which lines of it are measured, and how images are made of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// k-space in a file; this or `phantom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<ScanSpec>,
    /// A generated object; this or `scan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phantom: Option<PhantomSpec>,
    /// Lines that are measured; absent: all, or those of `scan.mask`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<SamplingSpec>,
    /// The algorithm.
    pub method: MethodSpec,
}

/// k-space in HDF5: complex numbers are pairs along the last axis, the middle of k-space is in the middle of the array.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanSpec {
    /// The file; relative to the job file.
    pub file: PathBuf,
    /// Array of `[slice, ky, kx, 2]`, or of `[slice, coil, ky, kx, 2]`.
    #[serde(default = "defaults::kspace")]
    pub kspace: String,
    /// Array of coil maps, `[slice, coil, y, x, 2]`; a phase that images have belongs into them. Absent: one coil that sees all alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maps: Option<String>,
    /// Array of `[ky]`, not 0 where a line was measured. Absent: by [problem.sampling], or all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
}

/// A generated object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhantomSpec {
    /// Which object.
    pub kind: PhantomKind,
    /// Points along x and y.
    pub size: usize,
    /// Slices, the middle ones of `size`; absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slices: Option<usize>,
    /// Ellipsoids in a head.
    #[serde(default = "defaults::parts")]
    pub parts: usize,
    /// Coils around it; 1 sees all alike.
    #[serde(default = "defaults::coils")]
    pub coils: usize,
    /// Standard deviation of the noise of real and imaginary parts.
    #[serde(default)]
    pub noise: f64,
}

/// Generated objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhantomKind {
    /// The 3-D Shepp–Logan head with modified contrast.
    SheppLogan,
    /// A shell with random ellipsoids in it.
    Ellipsoids,
}

/// Which lines of k-space (numbers of ky) are measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingSpec {
    /// How lines outside the middle are chosen.
    pub kind: SamplingKind,
    /// One line of so many is measured, the middle ones counted.
    pub acceleration: f64,
    /// Part of the lines, around the middle, that all are measured.
    #[serde(default = "defaults::centre_fraction")]
    pub centre_fraction: f64,
}

/// Ways to choose lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SamplingKind {
    /// At equal distances.
    Uniform,
    /// At random places, the same for all slices.
    Random,
}

/// The algorithm and its parameters; those that it does not have are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodSpec {
    /// Which.
    pub algorithm: Algorithm,
    /// Standard deviation of the noise of real and imaginary parts of k-space; absent: that of a phantom, 0 for a scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<f64>,
    /// Iterations (admm-tv); absent: 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<u64>,
    /// Total variation (admm-tv).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variation: Option<VariationSpec>,
    /// A denoiser as prior (dds, diffusion-mbir, red-diff).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diffusion: Option<DiffusionSpec>,
}

/// Algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// Lines that are not measured are zero.
    ZeroFilled,
    /// Total variation by alternating directions.
    AdmmTv,
    /// Decomposed diffusion.
    Dds,
    /// Predictor and corrector with data steps.
    DiffusionMbir,
    /// A volume that denoising leaves alone.
    RedDiff,
}

mod defaults {
    pub fn kspace() -> String {
        "/kspace".to_owned()
    }

    pub fn parts() -> usize {
        8
    }

    pub fn coils() -> usize {
        1
    }

    pub fn centre_fraction() -> f64 {
        0.08
    }
}

fn within(key: &str, value: f64, low: f64, high: f64) -> Result<(), BadValue> {
    if value >= low && value <= high {
        return Ok(());
    }
    Err(BadValue::new(format!("problem.{key}"), value, format!("{low} to {high}")))
}

impl MethodSpec {
    /// The method with a denoiser that it is, if it is one.
    pub fn prior(&self) -> Option<Method> {
        match self.algorithm {
            Algorithm::ZeroFilled | Algorithm::AdmmTv => None,
            Algorithm::Dds => Some(Method::Dds),
            Algorithm::DiffusionMbir => Some(Method::DiffusionMbir),
            Algorithm::RedDiff => Some(Method::RedDiff),
        }
    }

    /// Iterations of `admm-tv`.
    pub fn iterations(&self) -> u64 {
        self.iterations.unwrap_or(200)
    }

    /// Total variation, where the algorithm has it.
    pub fn variation(&self) -> Option<TvParams> {
        let spec = self.variation.as_ref().filter(|_| self.algorithm == Algorithm::AdmmTv)?;
        Some(spec.params(Minimiser::Admm, self.iterations()))
    }

    /// What is known of the denoiser.
    pub fn diffusion(&self) -> DiffusionSpec {
        self.diffusion.clone().unwrap_or_default()
    }
}

impl Spec {
    /// Every value that can be checked without opening a file.
    ///
    /// # Errors
    /// [`BadValue`] that names the key.
    pub fn check(&self) -> Result<(), BadValue> {
        match (&self.scan, &self.phantom) {
            (None, None) => {
                let bad =
                    BadValue::wrong("problem", "no source of k-space; expected [problem.scan] or [problem.phantom]");
                return Err(bad.help("[problem.scan] reads a file, [problem.phantom] generates an object"));
            }
            (Some(_), Some(_)) => {
                let bad = BadValue::wrong("problem.phantom", "a second source of k-space beside [problem.scan]");
                return Err(bad.help("remove the one that you do not mean"));
            }
            (Some(scan), None) => {
                if scan.file.as_os_str().is_empty() {
                    return Err(BadValue::new("problem.scan.file", "\"\"", "the path of an HDF5 file"));
                }
                if scan.mask.is_some() && self.sampling.is_some() {
                    return Err(BadValue::wrong(
                        "problem.sampling",
                        "a second choice of lines beside problem.scan.mask",
                    ));
                }
            }
            (None, Some(phantom)) => {
                within("phantom.size", phantom.size as f64, 2.0, 16_384.0)?;
                within("phantom.slices", phantom.slices.unwrap_or(phantom.size) as f64, 1.0, phantom.size as f64)?;
                within("phantom.parts", phantom.parts as f64, 0.0, 10_000.0)?;
                within("phantom.coils", phantom.coils as f64, 1.0, 128.0)?;
                within("phantom.noise", phantom.noise, 0.0, 1e6)?;
            }
        }
        if let Some(sampling) = &self.sampling {
            within("sampling.acceleration", sampling.acceleration, 1.0, 1e3)?;
            within("sampling.centre_fraction", sampling.centre_fraction, 0.0, 1.0)?;
        }
        within("method.noise", self.method.noise.unwrap_or(0.0), 0.0, 1e12)?;
        let method = &self.method;
        let name = serde_json::to_value(method.algorithm).unwrap_or_default().to_string();
        let variation = method.algorithm == Algorithm::AdmmTv;
        let foreign = [
            ("iterations", method.iterations.is_some() && !variation),
            ("variation", method.variation.is_some() && !variation),
            ("diffusion", method.diffusion.is_some() && method.prior().is_none()),
        ];
        if let Some((key, _)) = foreign.iter().find(|(_, there)| *there) {
            let bad = BadValue::foreign(format!("problem.method.{key}"), format!("algorithm {name}"));
            return Err(bad.help("remove it, or choose an algorithm that has it (jobs/mri/README.md)"));
        }
        within("method.iterations", method.iterations() as f64, 1.0, 1e5)?;
        let noise = method.noise.or(self.phantom.as_ref().map(|phantom| phantom.noise)).unwrap_or(0.0);
        if variation {
            let Some(spec) = &method.variation else {
                let bad =
                    BadValue::wrong("problem.method", format!("algorithm {name} needs [problem.method.variation]"));
                return Err(bad.help("[problem.method.variation] has at least its weight"));
            };
            spec.check("problem.method.variation", Minimiser::Admm, &name)?;
            if spec.choice() == Some(Choice::Discrepancy) && noise == 0.0 {
                let bad = BadValue::new(
                    "problem.method.variation.weight",
                    "\"discrepancy\"",
                    "problem.method.noise beside it",
                );
                return Err(bad.help("or give a number"));
            }
        }
        let Some(prior) = method.prior() else { return Ok(()) };
        method.diffusion().check(prior)?;
        method.diffusion().check_noise(noise > 0.0)
    }
}
