//! Rows of the table and what of them is written to the result.

use std::path::Path;

use convoke_cluster::results::{Axis, Meaning};
use convoke_cluster::sweep::{INPUTS, VARIABLES};
use convoke_cluster::{Ctx, Region, Result, Results};
use convoke_data::store::Reader;

use super::campaign::earlier::DEGREES;
use super::design::Design;
use super::draws::{Draws, From};
use super::experiment::{FIGURES, UNSTABLE, quantile};
use super::space::Space;
use super::spec::ExperimentSpec;
use super::spec::variable::Variable;

/// Column of λ_min(G) in the row of a design.
pub(super) const LAMBDA_MIN: usize = 0;
/// Figures in front of the points: λ_min, λ_max, ln det G, designs drawn.
const FRONT: [(&str, &str); 4] = [
    ("lambda_min", "smallest eigenvalue of G = (1/n) sum w phi phi^T"),
    ("lambda_max", "largest eigenvalue of G"),
    ("ln_det", "ln det G"),
    ("attempts", "designs drawn until one was stable enough"),
];
/// Quantiles of an experiment.
const QUANTILES: [f64; 5] = [0.05, 0.25, 0.75, 0.95, 0.99];

/// Columns of a design of `n` points: figures, then coordinates, weight, part and stream index of each point.
pub(super) fn columns(n: usize, dimension: usize) -> usize {
    FRONT.len() + n * (dimension + 3)
}

/// The row of a design.
pub(super) fn row(design: &Design) -> Vec<f64> {
    let spectrum = design.spectrum;
    let mut row = vec![spectrum.min, spectrum.max, spectrum.ln_det, design.attempts as f64];
    row.extend(&design.points);
    row.extend(&design.weights);
    // Stream indices are below 2^53.
    row.extend(design.parts.iter().chain(&design.indices).map(|i| *i as f64));
    row
}

fn axis(name: &str) -> Axis {
    Axis { name: name.to_owned(), unit: "1".to_owned(), origin: 0.0, spacing: 1.0 }
}

fn meaning(long_name: &str, axes: &[&str]) -> Meaning {
    let axes = axes.iter().map(|name| axis(name)).collect();
    Meaning { long_name: long_name.to_owned(), unit: "1".to_owned(), axes }
}

/// Writes an array that every rank holds.
fn write(out: &mut Results, name: &str, shape: &[usize], data: &[f64], meaning: &Meaning) -> Result<()> {
    let root = out.is_root();
    out.array(name, shape, (Region::whole(shape), root), data, meaning)
}

/// Points of designs for a space, in both systems of units, and its functions.
fn write_points(
    space: &Space,
    variables: &[Variable],
    (copies, n): (usize, usize),
    points: &[f64],
    out: &mut Results,
) -> Result<()> {
    let (d, m) = (variables.len(), space.len());
    let axes = ["copy", "point", "variable"];
    write(out, "points", &[copies, n, d], points, &meaning("points of evaluation, as the families have them", &axes))?;
    let inputs: Vec<f64> = points.iter().enumerate().map(|(i, x)| variables[i % d].value(*x)).collect();
    write(out, INPUTS, &[copies, n, d], &inputs, &meaning("points of evaluation in the units of the user", &axes))?;
    let degrees: Vec<f64> = (0..m).flat_map(|i| space.indices.dense(i)).map(|k| k as f64).collect();
    let what = meaning("degree of each variable in each function", &["function", "variable"]);
    write(out, DEGREES, &[m, d], &degrees, &what)?;
    let names: Vec<&str> = variables.iter().map(|v| v.name.as_str()).collect();
    out.text(VARIABLES, &names.join(","))
}

impl Draws {
    /// Points, weights and provenance of all copies.
    pub(super) fn write_designs(&self, ctx: &Ctx, out: &mut Results) -> Result<()> {
        let Some(recipe) = self.recipes.first() else { return Ok(()) };
        let (n, d) = (recipe.n, self.sizes.dimension);
        let width = columns(n, d);
        let copies = self.rows.len() / width;
        let part = |first: usize, len: usize| -> Vec<f64> {
            self.rows.chunks(width).flat_map(|row| &row[first..first + len]).copied().collect()
        };
        for (i, (name, long_name)) in FRONT.into_iter().enumerate() {
            out.series(name, &part(i, 1), "1", long_name)?;
        }
        let points = FRONT.len();
        let coordinates = part(points, n * d);
        match &self.from {
            From::Space(space, variables) => write_points(space, variables, (copies, n), &coordinates, out)?,
            From::Pool(pool, file) => self.write_atoms(file, pool.atoms(), (copies, n), &coordinates, out)?,
        }
        for (i, (name, long_name)) in [
            ("weights", "weights of least squares"),
            ("part", "part of the replica's random numbers that a point is from"),
            ("index", "number of a point in the stream of candidates of its part"),
        ]
        .into_iter()
        .enumerate()
        {
            let first = points + n * (d + i);
            write(out, name, &[copies, n], &part(first, n), &meaning(long_name, &["copy", "point"]))?;
        }
        let (holds, given_up) = recipe.guarantees(self.sizes.functions);
        out.figure("functions", self.sizes.functions as f64)?;
        out.text("law", &format!("{:?}", recipe.law).to_lowercase())?;
        out.text("seed", &ctx.seed.to_string())?;
        out.text("holds", &holds)?;
        out.text("given_up", if given_up.is_empty() { "nothing" } else { &given_up })
    }

    /// The atoms of a pool's designs, and what these are.
    fn write_atoms(
        &self,
        file: &Path,
        atoms: usize,
        (copies, n): (usize, usize),
        chosen: &[f64],
        out: &mut Results,
    ) -> Result<()> {
        write(out, "atoms", &[copies, n], chosen, &meaning("numbers of the atoms in the pool", &["copy", "point"]))?;
        out.figure("atoms_of_the_pool", atoms as f64)?;
        let Some(points) = self.spec.pool.as_ref().and_then(|pool| pool.points.as_ref()) else { return Ok(()) };
        let read = || -> Result<(usize, Vec<f64>)> {
            let reader = Reader::open(file)?;
            Ok((reader.shape(points)?[1], reader.read(points)?))
        };
        // Every rank knows the shape, the first one the values.
        let (d, all) = read()?;
        let inputs: Vec<f64> = chosen.iter().flat_map(|atom| &all[*atom as usize * d..][..d]).copied().collect();
        let what = meaning("the atoms", &["copy", "point", "variable"]);
        write(out, INPUTS, &[copies, n, d], &inputs, &what)?;
        let names: Vec<String> = (1..=d).map(|i| format!("x{i}")).collect();
        out.text(VARIABLES, &names.join(","))
    }

    /// Errors of all replicates and what they amount to.
    pub(super) fn write_experiment(&self, experiment: &ExperimentSpec, out: &mut Results) -> Result<()> {
        let (laws, ratios) = (experiment.laws.len(), experiment.ratios.len());
        let replicates = experiment.replicates as usize;
        let width = self.recipes.len() * FIGURES;
        let of = |recipe: usize, figure: usize| -> Vec<f64> {
            self.rows.chunks(width).map(|row| row[recipe * FIGURES + figure]).collect()
        };
        let all = |figure: usize| -> Vec<f64> { (0..self.recipes.len()).flat_map(|r| of(r, figure)).collect() };
        let shape = [laws, ratios, replicates];
        let axes = ["law", "ratio", "replicate"];
        write(out, "ratio2", &shape, &all(0), &meaning("squared error over that of the best approximation", &axes))?;
        write(out, "distance", &shape, &all(1), &meaning("||G - I||", &axes))?;
        write(out, "lambda_min", &shape, &all(2), &meaning("smallest eigenvalue of G", &axes))?;
        let sorted: Vec<Vec<f64>> = (0..self.recipes.len())
            .map(|recipe| {
                let mut values = of(recipe, 0);
                values.sort_by(f64::total_cmp);
                values
            })
            .collect();
        let mut table = |name: &str, long_name: &str, value: &dyn Fn(usize) -> f64| {
            let values: Vec<f64> = (0..self.recipes.len()).map(value).collect();
            write(out, name, &[laws, ratios], &values, &meaning(long_name, &["law", "ratio"]))
        };
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        table("median", "median of ratio2, 5 % to 95 %: squared error over that of the best approximation", &|r| {
            quantile(&sorted[r], 0.5)
        })?;
        table("mean", "mean of ratio2; infinite in expectation for iid with n <= m + 1", &|r| mean(&sorted[r]))?;
        table("unstable", "part of the designs with ||G - I|| > 0.9", &|r| {
            mean(&of(r, 1).iter().map(|d| f64::from(u8::from(*d > UNSTABLE))).collect::<Vec<f64>>())
        })?;
        for p in QUANTILES {
            let name = format!("quantile_{:02.0}", 100.0 * p);
            table(&name, &format!("quantile {p} of ratio2"), &|r| quantile(&sorted[r], p))?;
        }
        out.series("points_per_function", &experiment.ratios, "1", "points per function, n/m")?;
        out.chart("median", "points_per_function", &experiment.law_names(), Some(("quantile_05", "quantile_95")))?;
        out.chart("mean", "points_per_function", &experiment.law_names(), None)?;
        out.text("laws", &experiment.law_names())?;
        out.figure("functions", self.sizes.functions as f64)?;
        if let Some(target) = &self.target {
            out.figure("best_relative_error", (target.residual2 / target.norm2).sqrt())?;
        }
        out.text(
            "positioning",
            "dpp and volume: unbiased, exact laws, exact variances; greedy: lowest error for its size, biased, bounded by its own \
             lambda_min alone; the gain over independent points shrinks with the dimension",
        )
    }
}
