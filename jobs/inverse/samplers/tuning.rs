//! The weight of the total variation along z, chosen by the data: the one with the least estimated error of what is measured.
//!
//! Stein's unbiased estimate of E‖Ã x̂ − Ã x‖² is ‖Ã x̂ − ỹ‖² − M σ_y² + 2 σ_y² tr ∂(Ã x̂)/∂ỹ, whatever x is (Stein, Ann. Statist. 9 (1981) 1135). The
//! trace is that of (∂x̂/∂ỹ) Ã as well, so that one random image n tells it: nᵀ (x̂(ỹ + ε Ã n) − x̂(ỹ))/ε in the mean (Hutchinson 1990; Ramani, Blu
//! and Unser, IEEE Trans. Image Process. 17 (2008) 1540). Each weight costs two volumes, from the same random numbers and with the same n.
//!
//! The discrepancy principle, which asks for a residual as large as the noise, does not count what the volume follows of the noise. From few views
//! that is half of it: weights come out ten times too large (docs/benchmarks.md).

use convoke_cluster::{Fields, Result, Results};

use super::data::Data;
use super::{Chain, World};
use crate::inverse::Operator;

/// Weights that are tried, at most.
pub const CANDIDATES: u64 = 6;
/// The first one, and the ratio of neighbours.
const FIRST: f64 = 1e-4;
const RATIO: f64 = 3.0;
/// ε: the data are moved by this part of their noise.
const MOVE: f64 = 0.3;
/// Number of the random image among those of a sample: no step has it.
const PROBE: u64 = 0xffff_ffff;

/// A search under way.
#[derive(Debug, Default)]
pub(super) struct Tuning {
    /// What was tried, and the estimated errors as parts of the noise's squared norm.
    lambdas: Vec<f64>,
    pub risks: Vec<f64>,
    /// The weight of now, in the end the chosen one.
    pub lambda: f64,
    /// Steps of the two volumes of this weight that are done, and of all.
    at: u64,
    pub steps: u64,
    /// 1 once the weight is chosen.
    over: u64,
    /// The volume of the data as they are.
    base: Vec<f32>,
    /// The data moved, n and ε.
    moved: Option<(Data, Vec<f32>, f64)>,
}

impl Tuning {
    pub fn new(len: usize) -> Self {
        Self { lambda: FIRST, base: vec![0.0; len], ..Self::default() }
    }

    pub fn is_over(&self) -> bool {
        self.over == 1
    }

    /// One step; the level of noise that it was at. Collective.
    pub fn step(&mut self, chain: &mut dyn Chain, mut world: World<'_>) -> Result<f64> {
        let each = chain.steps();
        let (second, i) = (self.at >= each, self.at % each);
        chain.weigh(self.lambda);
        let sigma = if second {
            if self.moved.is_none() {
                self.moved = Some(moved(&mut world)?);
            }
            let (data, ..) = self.moved.as_mut().expect("it was made above");
            let World { operator, denoiser, place, seed, sample, .. } = world;
            walk(chain, i, &mut World { operator, data, denoiser, place, seed, sample })?
        } else {
            let sigma = walk(chain, i, &mut world)?;
            if i + 1 == each {
                self.base = chain.volume().to_vec();
                // With the residual of it half of the estimate is known; the other half follows from the second volume.
                let residual = world.data.residual(world.operator, &self.base)?;
                self.risks.push(residual.over_noise.powi(2) - 1.0);
                self.lambdas.push(self.lambda);
            }
            sigma
        };
        self.at += 1;
        self.steps += 1;
        if self.at == 2 * each {
            self.at = 0;
            self.judge(chain.volume())?;
        }
        Ok(sigma)
    }

    /// Both volumes of a weight are there. Collective.
    fn judge(&mut self, volume: &[f32]) -> Result<()> {
        let (data, probe, epsilon) = self.moved.as_ref().expect("the second volume has it");
        let change: Vec<f32> = volume.iter().zip(&self.base).map(|(a, b)| a - b).collect();
        let trace = data.place.dot(probe, &change)? / epsilon;
        if let Some(risk) = self.risks.last_mut() {
            *risk += 2.0 * trace / data.count;
        }
        match next(&self.lambdas, &self.risks) {
            Some(lambda) => self.lambda = lambda,
            None => {
                self.lambda = best(&self.lambdas, &self.risks);
                self.over = 1;
                self.moved = None;
            }
        }
        Ok(())
    }

    pub fn fields<'a>(&'a mut self, operator: &dyn Operator, fields: &mut Fields<'a>) {
        operator.place().keep("base", &mut self.base, fields);
        fields.real("lambda", &mut self.lambda);
        for (name, counter) in
            [("tuning_at", &mut self.at), ("tuning_steps", &mut self.steps), ("tuning_over", &mut self.over)]
        {
            fields.counter(name, counter);
        }
        fields.history("lambdas", &mut self.lambdas);
        fields.history("risks", &mut self.risks);
    }

    pub fn finish(&self, out: &mut Results) -> Result<()> {
        out.series("tuning_lambda", &self.lambdas, "1", "weights along z that were tried")?;
        out.series(
            "tuning_risk",
            &self.risks,
            "1",
            "estimated squared error of the projections over that of the noise",
        )?;
        out.chart("tuning_risk", "tuning_lambda", "", None)?;
        out.figure("lambda", self.lambda)
    }
}

fn walk(chain: &mut dyn Chain, i: u64, world: &mut World<'_>) -> Result<f64> {
    if i == 0 {
        chain.start(world)?;
    }
    chain.step(i, world)
}

/// ỹ + ε Ã n, n and ε. Collective.
fn moved(world: &mut World<'_>) -> Result<(Data, Vec<f32>, f64)> {
    let probe: Vec<f32> = world.normal(PROBE).collect();
    let image = world.data.image(world.operator, &probe)?;
    let epsilon = MOVE * (world.data.noise * world.data.count / image.max(f64::MIN_POSITIVE)).sqrt();
    let data = world.data.moved(world.operator, &probe, epsilon)?;
    Ok((data, probe, epsilon))
}

/// The next weight: downhill by a factor until the best one has neighbours on both sides.
fn next(lambdas: &[f64], risks: &[f64]) -> Option<f64> {
    if lambdas.len() as u64 >= CANDIDATES {
        return None;
    }
    let k = least(risks)?;
    let near = |at: f64| lambdas.iter().any(|l| (l / at - 1.0).abs() < 0.1);
    // Upwards first: there the error of a wrong weight is the larger one.
    [lambdas[k] * RATIO, lambdas[k] / RATIO].into_iter().find(|at| !near(*at))
}

fn least(risks: &[f64]) -> Option<usize> {
    (0..risks.len()).min_by(|i, j| risks[*i].total_cmp(&risks[*j]))
}

/// The lowest point of the parabola through the best weight and its neighbours, over the logarithm.
fn best(lambdas: &[f64], risks: &[f64]) -> f64 {
    let Some(k) = least(risks) else { return FIRST };
    let at = |lambda: f64| lambdas.iter().position(|l| (l / lambda - 1.0).abs() < 0.1).map(|i| risks[i]);
    let (Some(below), Some(above)) = (at(lambdas[k] / RATIO), at(lambdas[k] * RATIO)) else { return lambdas[k] };
    let (slope, bend) = (0.5 * (above - below), above + below - 2.0 * risks[k]);
    if bend > 0.0 { lambdas[k] * RATIO.powf((-slope / bend).clamp(-0.5, 0.5)) } else { lambdas[k] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A parabola over the logarithm: its lowest point, from either side of the first weight; beyond the candidates the last one.
    #[test]
    fn the_lowest_weight_is_found() {
        for (lowest, found) in [(1e-4, 1e-4), (7e-4, 7e-4), (2e-5, 2e-5), (1.0, FIRST * RATIO.powi(5))] {
            let (mut lambdas, mut risks, mut now) = (Vec::new(), Vec::new(), Some(FIRST));
            while let Some(lambda) = now {
                lambdas.push(lambda);
                risks.push(f64::ln(lambda / lowest).powi(2));
                now = next(&lambdas, &risks);
            }
            let best = best(&lambdas, &risks);
            assert!((best / found - 1.0).abs() < 1e-9, "{lowest}: {best} of {lambdas:?}");
            assert!(lambdas.len() as u64 <= CANDIDATES);
        }
    }
}
