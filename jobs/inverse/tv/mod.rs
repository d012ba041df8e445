//! Total variation: min ½‖A x − y‖²/‖A‖² + λ TV(x), with x ≥ 0 and 0 outside a mask where that is asked for.
//!
//! TV(x) is the sum of the lengths of the differences between neighbouring voxels (Rudin, Osher and Fatemi, Physica D 60 (1992) 259): of each
//! voxel's three together (isotropic), or of each by itself (anisotropic). Division by ‖A‖² makes λ comparable between operators: about 1e-4 to
//! 1e-3 for projections of values around 1.

mod admm;
mod fista;
pub mod grid;
mod on_device;
mod pdhg;
mod search;
pub mod spec;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

use convoke_cluster::{Fields, Result, Results};
use convoke_kernels::Buffer;

use super::place::Place;
use super::price::{Pass, Price};
use super::{Operator, Report, Solver, norm_with, norm2, vectors};
use grid::Grid;
use search::{CANDIDATES, Search};
pub use spec::{Along, Choice, Kind, VariationSpec, Weight};

/// Power iterations for ‖A‖.
const POWER: usize = 20;

/// Which algorithm minimises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Minimiser {
    /// Proximal gradients with momentum, whose proximal step is the dual of a denoising (Beck and Teboulle 2009).
    Fista,
    /// Alternating directions, with conjugate gradients inside.
    Admm,
    /// Primal and dual steps in turn (Chambolle and Pock 2011).
    Pdhg,
}

/// What is minimised, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct TvParams {
    /// Algorithm.
    pub minimiser: Minimiser,
    /// λ, where it is not searched for.
    pub weight: f64,
    /// How it is.
    pub choice: Option<Choice>,
    /// How much noise the measurements have; the discrepancy needs it.
    pub noise: Option<Noise>,
    /// Steps with each weight of a search.
    pub steps: u64,
    /// How a voxel's differences are measured.
    pub kind: Kind,
    /// Which count.
    pub along: Along,
    /// Iterations of the denoising (fista) or of conjugate gradients (admm) in a step.
    pub inner: u64,
    /// ρ, the penalty of the splitting (admm); absent: 10 λ.
    pub penalty: Option<f64>,
    /// Keep the image at or above 0.
    pub non_negative: bool,
    /// 1 or 0, one slice: the image is 0 outside.
    pub mask: Option<Vec<f32>>,
    /// It ends once a step changes the image by no more than this part of it.
    pub tolerance: f64,
}

/// How much noise measurements have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Noise {
    /// Expected squared norm.
    Norm2(f64),
    /// Photons and readout: the variance of a measurement of y is σ² exp(a y) (1 + ρ exp(a y))/(1 + ρ).
    Photons {
        /// σ, the standard deviation where y is 0.
        sigma: f64,
        /// a.
        attenuation: f64,
        /// ρ, the readout's variance over the number of photons where y is 0.
        readout: f64,
    },
}

impl TvParams {
    /// What it costs.
    pub fn price(&self) -> Price {
        let price = match self.minimiser {
            Minimiser::Fista => fista::price(self),
            Minimiser::Admm => admm::price(self),
            Minimiser::Pdhg => pdhg::price(self),
        };
        // Each weight is looked at, and the noise is summed up.
        let look = Pass { forward: 1, dots: 1, measured_dots: 2, halos: 1, ..Pass::default() };
        Price { start: price.start.and(if self.choice.is_some() { CANDIDATES } else { 0 }, look), ..price }
    }

    fn rho(&self) -> f64 {
        // Without variation it does not matter: the splitting is of nothing.
        self.penalty.unwrap_or(if self.weight > 0.0 { 10.0 * self.weight } else { 1e-3 })
    }

    /// Puts a row into the set of allowed images.
    fn constrain(&self, points: [usize; 2], row: usize, v: &mut [f32]) {
        if self.non_negative {
            v.iter_mut().for_each(|v| *v = v.max(0.0));
        }
        self.cut(points, row, v);
    }

    /// Cuts a row with the mask.
    fn cut(&self, [ny, nx]: [usize; 2], row: usize, v: &mut [f32]) {
        if let Some(mask) = &self.mask {
            v.iter_mut().zip(&mask[row % ny * nx..][..nx]).for_each(|(v, m)| *v *= m);
        }
    }
}

/// What every algorithm has.
#[derive(Debug)]
struct Problem {
    params: TvParams,
    grid: Grid,
    /// Data, and room for what is measured of an image.
    y: Buffer<f32>,
    q: Buffer<f32>,
    /// The image.
    x: Buffer<f32>,
    /// 1/‖A‖², 0 before the first step.
    scale: f64,
    /// ‖y‖².
    y2: f64,
}

/// q = A v − y; returns its squared norm. Collective.
fn residual(operator: &mut dyn Operator, v: &mut Buffer<f32>, y: &mut Buffer<f32>, q: &mut Buffer<f32>) -> Result<f64> {
    operator.forward(v, q)?;
    vectors::zip(q.host_mut(), y.host(), |q, y| *q -= y);
    norm2(q, |q| operator.dot(q, q))
}

/// What an algorithm did in a step.
#[derive(Debug, Clone, Copy)]
struct Done {
    /// ‖A v − y‖² of an image v that was met on the way.
    residual2: f64,
    /// Squares of the step and of the image after it.
    step2: f64,
    image2: f64,
}

/// One of the algorithms.
trait Algorithm: Debug {
    fn step(&mut self, problem: &mut Problem, operator: &mut dyn Operator) -> Result<Done>;

    /// State beside the image.
    fn fields<'a>(&'a mut self, operator: &dyn Operator, fields: &mut Fields<'a>);

    fn restored(&mut self, _operator: &mut dyn Operator) -> Result<()> {
        Ok(())
    }

    /// Before another weight.
    fn restart(&mut self) {}

    /// An allowed image.
    fn image<'a>(&'a mut self, problem: &'a mut Problem) -> &'a mut Buffer<f32> {
        &mut problem.x
    }
}

/// A minimisation under way.
#[derive(Debug)]
pub struct TotalVariation {
    problem: Problem,
    algorithm: Box<dyn Algorithm>,
    search: Search,
    /// Steps with the weight of now.
    steps: u64,
    /// Squared norm of the noise, where it counts.
    target2: f64,
}

impl TotalVariation {
    /// Of the data y, from x = 0.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(operator: &dyn Operator, y: Buffer<f32>, params: TvParams) -> Result<Self> {
        let place = operator.place();
        let grid = Grid::new(place, params.along);
        let algorithm: Box<dyn Algorithm> = match params.minimiser {
            Minimiser::Fista => Box::new(fista::Fista::new(operator, &grid)?),
            Minimiser::Admm => Box::new(admm::Admm::new(operator, &grid, &params)?),
            Minimiser::Pdhg => Box::new(pdhg::Pdhg::new(operator, &grid)?),
        };
        let (q, x) = (operator.zeros(y.len())?, operator.zeros(place.len())?);
        let problem = Problem { params, grid, y, q, x, scale: 0.0, y2: 0.0 };
        Ok(Self { problem, algorithm, search: Search::default(), steps: 0, target2: 0.0 })
    }

    /// ‖A‖, ‖y‖, and where a search begins.
    fn start(&mut self, operator: &mut dyn Operator) -> Result<()> {
        let Problem { params, y, q, scale, y2, .. } = &mut self.problem;
        let norm = norm_with(operator, POWER, q)?;
        *scale = if norm > 0.0 { norm.powi(-2) } else { 1.0 };
        *y2 = norm2(y, |y| operator.dot(y, y))?;
        let Some(choice) = params.choice else { return Ok(()) };
        let place = operator.place();
        let unit = (*y2 * *scale / (place.all * place.size()) as f64).sqrt();
        params.weight = Search::first(choice, unit);
        self.target2 = match params.noise {
            None => 0.0,
            Some(Noise::Norm2(norm2)) => norm2,
            Some(Noise::Photons { sigma, attenuation, readout }) => {
                let (sigma, half) = (sigma as f32, 0.5 * attenuation as f32);
                let (rho, all) = (readout as f32, 1.0 + readout as f32);
                let deviation = |root: f32| sigma * root * ((1.0 + rho * root * root) / all).sqrt();
                vectors::zip(q.host_mut(), y.host(), |q, y| *q = deviation((half * y).exp()));
                norm2(q, |q| operator.dot(q, q))?
            }
        };
        Ok(())
    }

    /// The image of a weight is there: notes what it is like and goes on to the next one. Returns whether there is none.
    fn look(&mut self, choice: Choice, operator: &mut dyn Operator) -> Result<bool> {
        let [fidelity, variation, weight] = self.objective(operator)?;
        let search = &mut self.search;
        search.weights.push(weight);
        search.residuals2.push(2.0 * fidelity / self.problem.scale);
        search.variations.push(variation);
        self.steps = 0;
        let next = search.next(choice, self.target2);
        if let Some(weight) = next {
            self.problem.params.weight = weight;
            self.algorithm.restart();
        }
        Ok(next.is_none())
    }

    /// ½‖A x − y‖²/‖A‖², TV(x) and λ of the image as it is. Collective.
    ///
    /// # Errors
    /// Of the operator.
    pub fn objective(&mut self, operator: &mut dyn Operator) -> Result<[f64; 3]> {
        let problem = &mut self.problem;
        let residual2 = residual(operator, &mut problem.x, &mut problem.y, &mut problem.q)?;
        let variation = problem.grid.variation(problem.x.host(), problem.params.kind)?;
        Ok([0.5 * residual2 * problem.scale, variation, problem.params.weight])
    }
}

impl Solver for TotalVariation {
    fn step(&mut self, operator: &mut dyn Operator, _number: u64) -> Result<Report> {
        if self.problem.scale == 0.0 {
            self.start(operator)?;
        }
        let problem = &mut self.problem;
        let Done { residual2, step2, image2 } = self.algorithm.step(problem, operator)?;
        let change = if image2 > 0.0 { (step2 / image2).sqrt() } else { 0.0 };
        let residual = if problem.y2 > 0.0 { (residual2 / problem.y2).sqrt() } else { 0.0 };
        let mut done = change <= problem.params.tolerance;
        let mut metrics = vec![("residual", residual), ("change", change)];
        if let Some(choice) = problem.params.choice {
            metrics.push(("weight", problem.params.weight));
            self.steps += 1;
            done |= self.steps >= problem.params.steps;
            done = done && self.look(choice, operator)?;
        }
        Ok(Report { done, metrics })
    }

    fn image(&mut self) -> &mut Buffer<f32> {
        self.algorithm.image(&mut self.problem)
    }

    fn fields<'a>(&'a mut self, operator: &dyn Operator, fields: &mut Fields<'a>) {
        let Problem { params, x, scale, y2, .. } = &mut self.problem;
        operator.place().keep("image", x.host_mut(), fields);
        fields.real("scale", scale);
        fields.real("data2", y2);
        if params.choice.is_some() {
            fields.real("weight", &mut params.weight);
            fields.real("noise2", &mut self.target2);
            fields.counter("steps_of_weight", &mut self.steps);
            fields.history("weights", &mut self.search.weights);
            fields.history("residuals2", &mut self.search.residuals2);
            fields.history("variations", &mut self.search.variations);
        }
        self.algorithm.fields(operator, fields);
    }

    fn restored(&mut self, operator: &mut dyn Operator) -> Result<()> {
        self.algorithm.restored(operator)
    }

    fn finish(&mut self, operator: &mut dyn Operator, out: &mut Results) -> Result<()> {
        let [fidelity, variation, weight] = self.objective(operator)?;
        if self.problem.params.choice.is_some() {
            let relative: Vec<f64> = self.search.residuals2.iter().map(|r| (r / self.problem.y2).sqrt()).collect();
            out.series("search_weight", &self.search.weights, "1", "weights of the variation that were tried")?;
            out.series("search_residual", &relative, "1", "relative residuals of their images")?;
            out.series("search_variation", &self.search.variations, "1", "total variations of their images")?;
            if self.target2 > 0.0 {
                out.figure("noise_level", (self.target2 / self.problem.y2).sqrt())?;
            }
        }
        out.figure("total_variation", variation)?;
        out.figure("variation_weight", weight)?;
        out.figure("objective", fidelity + weight * variation)
    }
}

/// Keeps a field of differences in a checkpoint.
fn keep_field<'a>(place: &Place, name: &str, p: &'a mut [f32], fields: &mut Fields<'a>) {
    let per_row = p.len() / (place.slices.len() * place.points[0]).max(1);
    let per_row = if place.is_empty() { place.points[1] } else { per_row };
    let shape = [place.all, place.points[0], per_row];
    let region = convoke_cluster::Region::rows(&shape, place.slices.clone());
    fields.array(name, &shape, region, p).owned = place.leads;
}

/// Squared norms of a step and of the image after it. Collective.
fn change(place: &Place, x: &[f32], old: &[f32]) -> Result<(f64, f64)> {
    use rayon::prelude::*;
    let slices = x.par_chunks(place.size()).zip(old.par_chunks(place.size()));
    let sums: Vec<[f64; 2]> = slices
        .map(|(x, old)| {
            x.iter().zip(old).fold([0.0; 2], |[step, image], (x, old)| {
                let (d, x) = (f64::from(x - old), f64::from(*x));
                [step + d * d, image + x * x]
            })
        })
        .collect();
    let part = |k: usize| sums.iter().map(|s| s[k]).collect::<Vec<f64>>();
    Ok((place.sum(&part(0))?, place.sum(&part(1))?))
}
