//! Where samples begin, and functions that a job file gives as expressions.

use convoke_cluster::BadValue;
use convoke_kernels::random::Philox;
use num_complex::Complex64;

use super::modes::Modes;
use super::spec::{InitialKind, InitialSpec};
use super::transform::Transform;
use crate::expression::{Graph, Names, compile};

/// Streams of random numbers from here on belong to samples.
const STREAM: u64 = 0x7064_0000_0000;
/// Part of a function's mean square that the modes may miss.
const MISSED: f64 = 1e-20;

/// Initial vorticity of samples.
#[derive(Debug)]
pub enum Initial {
    /// Independent coefficients of these deviations.
    Gaussian(Vec<f64>),
    /// Independent coefficients of a stream function of these deviations, scaled to this energy.
    Stream(Vec<f64>, f64),
    /// The same for all.
    Given(Vec<Complex64>),
}

impl Initial {
    /// # Errors
    /// [`BadValue`] for an expression that cannot be read or has finer detail than the grid.
    pub fn new(spec: &InitialSpec, modes: &Modes) -> Result<Self, BadValue> {
        Ok(match spec.kind {
            InitialKind::Gaussian => {
                let (alpha, tau) = (spec.alpha.unwrap_or(2.5), spec.tau.unwrap_or(7.0));
                let deviation =
                    |square: f64| 2f64.sqrt() * tau.powf(alpha - 1.0) * (square + tau * tau).powf(-0.5 * alpha);
                Self::Gaussian(modes.squares().map(|s| if s > 0.0 { deviation(s) } else { 0.0 }).collect())
            }
            InitialKind::Mcwilliams => {
                let peak = spec.peak.unwrap_or(4.0);
                let deviation = |square: f64| 1.0 / (square.sqrt() * (1.0 + (square.sqrt() / peak).powi(4)));
                let all = modes.squares().map(|s| if s > 0.0 { deviation(s) } else { 0.0 }).collect();
                Self::Stream(all, spec.energy.unwrap_or(0.25))
            }
            InitialKind::Expression => {
                let text = spec.vorticity.as_deref().unwrap_or_default();
                Self::Given(coefficients("problem.initial.vorticity", text, modes)?)
            }
        })
    }

    /// The vorticity of sample `sample` at time 0. A sample's coefficient of a mode depends on the seed, the sample and the mode,
    /// not on the grid.
    pub fn sample(&self, modes: &Modes, seed: u64, sample: u64) -> Vec<Complex64> {
        match self {
            Self::Given(w) => w.clone(),
            Self::Gaussian(deviations) => normal(modes, deviations, seed, sample),
            Self::Stream(deviations, energy) => {
                let psi = normal(modes, deviations, seed, sample);
                let mut w: Vec<Complex64> = psi.iter().zip(modes.squares()).map(|(psi, square)| psi * square).collect();
                let scale = (energy / modes.energy(&w)).sqrt();
                w.iter_mut().for_each(|w| *w *= scale);
                w
            }
        }
    }
}

/// Coefficients of a real function: complex normal with E|ŵ|² = deviation².
fn normal(modes: &Modes, deviations: &[f64], seed: u64, sample: u64) -> Vec<Complex64> {
    let random = Philox::new(seed, STREAM + sample);
    let one = |kx: i64, ky: i64| {
        // Modes of the half plane, each with two numbers of its own; 2^24 is beyond any grid.
        let key = (((ky as u64) << 25) | (kx + (1 << 24)) as u64) << 1;
        Complex64::new(random.normal(key), random.normal(key + 1)) * 0.5f64.sqrt()
    };
    let value = |(kx, ky): (i64, i64)| if ky == 0 && kx < 0 { one(-kx, 0).conj() } else { one(kx, ky) };
    modes.each().zip(deviations).map(|(mode, deviation)| value(mode) * *deviation).collect()
}

/// A function of x and y, as text; its value at a point.
fn function(key: &str, text: &str) -> Result<impl Fn(f64, f64) -> f64 + use<>, BadValue> {
    let mut graph = Graph::new();
    let axes = ["x", "y"].map(|name| graph.symbol(name));
    let mut names = Names::new();
    for (name, axis) in ["x", "y"].into_iter().zip(axes) {
        let node = graph.variable(axis);
        names.insert(name, node);
    }
    let node = graph.parse(text, &names).map_err(|e| BadValue::wrong(key, e))?;
    let program = compile(&graph, &[node], &axes).map_err(|e| BadValue::wrong(key, e))?;
    Ok(move |x, y| program.at(&[x, y])[0])
}

/// Whether a text is a function of x and y.
///
/// # Errors
/// [`BadValue`] with the column.
pub fn check(key: &str, text: &str) -> Result<(), BadValue> {
    function(key, text).map(drop)
}

/// Coefficients of the function `text` of x and y.
///
/// # Errors
/// [`BadValue`] where it cannot be read, is not finite, or is finer than the modes.
pub fn coefficients(key: &str, text: &str, modes: &Modes) -> Result<Vec<Complex64>, BadValue> {
    let f = function(key, text)?;
    let transform = Transform::new(modes, false);
    let n = modes.n;
    let at = |i: usize| modes.length * i as f64 / n as f64;
    let values: Vec<f64> = (0..n * n).map(|i| f(at(i / n), at(i % n))).collect();
    if let Some(i) = values.iter().position(|v| !v.is_finite()) {
        let (x, y, v) = (at(i / n), at(i % n), values[i]);
        return Err(BadValue::wrong(key, format!("{text:?} is {v} at x = {x}, y = {y}: expected a finite function")));
    }
    let square: f64 = values.iter().map(|v| v * v).sum();
    let scale = 1.0 / (n * n) as f64;
    let mut found = vec![Complex64::ZERO; modes.len()];
    transform.through(
        &mut transform.work(),
        |_, row, mirror| (row.fill(Complex64::ZERO), mirror.fill(Complex64::ZERO)).0,
        |x, lines| lines.iter_mut().zip(&values[x * n..]).for_each(|(to, v)| *to = Complex64::new(*v, 0.0)),
        |ky, row, _| {
            for (column, to) in found[ky * modes.width()..][..modes.width()].iter_mut().enumerate() {
                *to = row[modes.places(column).0] * scale;
            }
        },
    );
    let held = modes.norm2(&found);
    if square * scale - held > MISSED.sqrt() * square * scale {
        let message = format!("{text:?} has waves beyond mode {} or does not repeat along the square", modes.m);
        let help = "raise problem.grid.points (modes below a third of them are kept), or check problem.grid.length";
        return Err(BadValue::wrong(key, message).help(help));
    }
    Ok(found)
}

/// Values of a real function at `points` × `points` points, `[x][y]`, cut to what they hold.
#[derive(Debug)]
pub struct Sampler {
    modes: Modes,
    transform: Transform,
}

impl Sampler {
    /// For functions of `modes`.
    pub fn new(modes: &Modes, points: usize) -> Self {
        let modes = Modes { n: points, m: modes.m.min((points - 1) / 2), length: modes.length };
        let transform = Transform::new(&modes, false);
        Self { modes, transform }
    }

    /// The values, in order.
    pub fn values(&self, of: &Modes, w: &[Complex64]) -> Vec<f64> {
        let (here, half) = (&self.modes, self.modes.m);
        let mut values = Vec::with_capacity(here.n * here.n);
        self.transform.visit(
            &mut self.transform.work(),
            |ky, row, mirror| {
                for column in 0..here.width() {
                    let kx = if column <= half { column as i64 } else { column as i64 - here.width() as i64 };
                    let ((at, back), value) = (here.places(column), w[of.index(kx, ky)]);
                    row[at] = value;
                    if ky > 0 {
                        mirror[back] = value.conj();
                    }
                }
            },
            |_, line| values.extend(line.iter().map(|z| z.re)),
        );
        values
    }
}
