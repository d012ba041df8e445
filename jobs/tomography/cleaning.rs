//! Sections of a job file that say how a scan is cleaned: phase retrieval, rings.

use std::f64::consts::PI;

use convoke_cluster::BadValue;
use serde::{Deserialize, Serialize};

use super::cone::spec::{GeometryKind, GeometrySpec};
use super::rings::Rings;
use super::spec::{ScanSpec, within};

/// h c in keV nm.
const PLANCK_LIGHT: f64 = 1.239_841_984;

/// `[problem.scan.phase]`: from one projection at a distance to the attenuation that a homogeneous object has without it.
///
/// Source: D. Paganin et al., J. Microscopy 206 (2002) 33.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseSpec {
    /// Energy of the photons; this or `wavelength_nm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_kev: Option<f64>,
    /// Their wavelength; this or `energy_kev`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wavelength_nm: Option<f64>,
    /// From the object to the detector; parallel beams only, a cone's follows from its geometry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distance_mm: Option<f64>,
    /// δ/β of the object, whose refractive index is 1 − δ + iβ.
    pub delta_over_beta: f64,
}

impl PhaseSpec {
    /// Checks every value.
    ///
    /// # Errors
    /// The first bad value, with its key.
    pub fn check(&self) -> Result<(), BadValue> {
        if self.energy_kev.is_some() == self.wavelength_nm.is_some() {
            return Err(BadValue::wrong("problem.scan.phase", "needs one of energy_kev and wavelength_nm"));
        }
        for (key, value, low, high) in [
            ("energy_kev", self.energy_kev, 1e-3, 1e4),
            ("wavelength_nm", self.wavelength_nm, 1e-4, 1e3),
            ("distance_mm", self.distance_mm, 1e-6, 1e6),
            ("delta_over_beta", Some(self.delta_over_beta), 1e-3, 1e7),
        ] {
            if let Some(value) = value {
                within(&format!("problem.scan.phase.{key}"), value, low, high)?;
            }
        }
        Ok(())
    }

    /// ℓ of the filter 1/(1 + ℓ² k²), along rows and columns of a detector of so many columns, in its pixels: ℓ² = λ z (δ/β) / 4π. A cone
    /// beam of magnification M acts like a parallel one at z/M, with pixels that are M times smaller (Fresnel scaling).
    ///
    /// # Errors
    /// Keys that are missing or do not belong there; a blur that is wider than the detector.
    pub fn blur(&self, scan: &ScanSpec, geometry: Option<&GeometrySpec>, n_cols: usize) -> Result<[f64; 2], BadValue> {
        let needs = |key: &str| BadValue::wrong("problem.scan.phase", format!("needs {key}"));
        let (distance, pixel) = match geometry {
            None => {
                let pixel = scan.pixel_size_mm.ok_or_else(|| needs("problem.scan.pixel_size_mm"))?;
                (self.distance_mm.ok_or_else(|| needs("distance_mm"))?, [pixel; 2])
            }
            Some(g) if g.kind == GeometryKind::Vectors => {
                return Err(BadValue::foreign("problem.scan.phase", "a geometry of vectors"));
            }
            Some(_) if self.distance_mm.is_some() => {
                let bad = BadValue::foreign("problem.scan.phase.distance_mm", "[problem.geometry]");
                return Err(bad.help("it is source_to_detector_mm - source_to_axis_mm"));
            }
            Some(g) => {
                let known = |length: Option<f64>, key| length.ok_or_else(|| needs(key));
                let to_axis = known(g.source_to_axis_mm, "problem.geometry.source_to_axis_mm")?;
                let to_detector = known(g.source_to_detector_mm, "problem.geometry.source_to_detector_mm")?;
                let width = known(g.pixel_mm, "problem.geometry.pixel_mm")?;
                let magnification = to_detector / to_axis;
                let pixel = [g.pixel_height_mm.unwrap_or(width), width].map(|p| p / magnification);
                ((to_detector - to_axis) / magnification, pixel)
            }
        };
        let wavelength_nm = self.wavelength_nm.or(self.energy_kev.map(|e| PLANCK_LIGHT / e)).unwrap_or(0.0);
        let squared = wavelength_nm * 1e-6 * distance * self.delta_over_beta / (4.0 * PI);
        let blur = pixel.map(|p| squared.max(0.0).sqrt() / p);
        if blur[1] > n_cols as f64 {
            let what = format!("blurs over {:.0} pixels, more than the detector's {n_cols} columns", blur[1]);
            return Err(BadValue::wrong("problem.scan.phase", what).help("check the units: keV, nm, mm"));
        }
        Ok(blur)
    }
}

/// Removal of ring artefacts (stripes of the sinogram).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingsSpec {
    /// How.
    pub method: RingMethod,
    /// Window in columns (`sorting`, `column-mean`: 21; `large`, `dead`, `all`: 51).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// Levels of the wavelet transform (`fourier-wavelet`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<usize>,
    /// Width of the damped band (`fourier-wavelet`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigma: Option<f64>,
    /// How far a stripe stands out of the noise (`large`, `dead`, `all`); absent: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snr: Option<f64>,
    /// Window in columns of the sorting that comes last (`all`); absent: 21.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub small_window: Option<usize>,
    /// Weight of the offsets (`regularised`); absent: 0.0005.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Parts of the angles with offsets of their own (`regularised`); absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<usize>,
}

/// Ways to remove stripes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RingMethod {
    /// Median over sorted columns (Vo 2018).
    Sorting,
    /// Damped vertical details of a wavelet transform (Münch 2009).
    FourierWavelet,
    /// Difference of the columns' means from their smooth course.
    ColumnMean,
    /// Wide stripes (Vo 2018).
    Large,
    /// Dead and restless columns, then wide stripes (Vo 2018).
    Dead,
    /// Dead, wide and narrow stripes (Vo 2018).
    All,
    /// Offsets that make the columns' means smooth (Titarenko 2010).
    Regularised,
}

impl RingsSpec {
    /// The method with its parameters.
    pub fn method(&self) -> Rings {
        let (snr, wide) = (self.snr.unwrap_or(3.0), self.window.unwrap_or(51));
        match self.method {
            RingMethod::Sorting => Rings::Sorting { size: self.window.unwrap_or(21) },
            RingMethod::ColumnMean => Rings::ColumnMean { size: self.window.unwrap_or(21) },
            RingMethod::FourierWavelet => {
                Rings::FourierWavelet { levels: self.levels.unwrap_or(5), sigma: self.sigma.unwrap_or(2.0) }
            }
            RingMethod::Large => Rings::Large { snr, size: wide },
            RingMethod::Dead => Rings::Dead { snr, size: wide },
            RingMethod::All => Rings::All { snr, size: wide, small: self.small_window.unwrap_or(21) },
            RingMethod::Regularised => {
                Rings::Regularised { alpha: self.alpha.unwrap_or(5e-4), chunks: self.chunks.unwrap_or(1) }
            }
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first bad value, with its key.
    pub fn check(&self) -> Result<(), BadValue> {
        use RingMethod as M;
        let (wavelet, regularised) = (self.method == M::FourierWavelet, self.method == M::Regularised);
        let detects = matches!(self.method, M::Large | M::Dead | M::All);
        let foreign = [
            ("window", (wavelet || regularised) && self.window.is_some()),
            ("levels", !wavelet && self.levels.is_some()),
            ("sigma", !wavelet && self.sigma.is_some()),
            ("snr", !detects && self.snr.is_some()),
            ("small_window", self.method != M::All && self.small_window.is_some()),
            ("alpha", !regularised && self.alpha.is_some()),
            ("chunks", !regularised && self.chunks.is_some()),
        ];
        if let Some((key, _)) = foreign.iter().find(|(_, there)| *there) {
            let method = serde_json::to_value(self.method).unwrap_or_default();
            return Err(BadValue::foreign(format!("problem.rings.{key}"), format!("method {method}")));
        }
        if let Some(window) = self.window {
            within("problem.rings.window", window as f64, 3.0, 1001.0)?;
        }
        if let Some(window) = self.small_window {
            within("problem.rings.small_window", window as f64, 3.0, 1001.0)?;
        }
        if let Some(snr) = self.snr {
            within("problem.rings.snr", snr, 1.0, 1e3)?;
        }
        if let Some(alpha) = self.alpha {
            within("problem.rings.alpha", alpha, 1e-9, 1e3)?;
        }
        if let Some(chunks) = self.chunks {
            within("problem.rings.chunks", chunks as f64, 1.0, 1e6)?;
        }
        if let Some(levels) = self.levels {
            within("problem.rings.levels", levels as f64, 1.0, 12.0)?;
        }
        match self.sigma {
            Some(sigma) => within("problem.rings.sigma", sigma, 1e-3, 1e3),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(more: &str) -> ScanSpec {
        toml::from_str(&format!("file = \"a\"\npixel_size_mm = 0.001\n[phase]\n{more}")).expect("a scan")
    }

    /// 12.39841984 keV are 0.1 nm: with z = 40 π mm and δ/β = 100, ℓ² = 1e-7 · 40 π · 100 / 4π mm² = (0.01 mm)².
    #[test]
    fn the_blur_of_a_known_case_is_ten_pixels() {
        let distance = 40.0 * PI;
        for light in ["energy_kev = 12.39841984", "wavelength_nm = 0.1"] {
            let scan = scan(&format!("{light}\ndistance_mm = {distance}\ndelta_over_beta = 100.0"));
            let blur = scan.phase.as_ref().expect("phase").blur(&scan, None, 64).expect("a blur");
            assert!(blur.iter().all(|b| (b - 10.0).abs() < 1e-9), "{blur:?}");
        }
        // A cone of magnification 2 with pixels of 2 µm, twice as far: the same filter.
        let geometry = format!(
            "kind = \"circular\"\nsource_to_axis_mm = {}\nsource_to_detector_mm = {}\npixel_mm = 0.002",
            2.0 * distance,
            4.0 * distance
        );
        let geometry: GeometrySpec = toml::from_str(&geometry).expect("a geometry");
        let scan = scan("wavelength_nm = 0.1\ndelta_over_beta = 100.0");
        let phase = scan.phase.as_ref().expect("phase");
        let blur = phase.blur(&scan, Some(&geometry), 64).expect("a blur");
        assert!(blur.iter().all(|b| (b - 10.0).abs() < 1e-9), "{blur:?}");
    }
}
