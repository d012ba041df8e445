//! What both solvers write: grids of results, the learned prior, the spectrum of the data.

use convoke_cluster::results::{Axis, Meaning};
use convoke_cluster::workload::Inputs;
use convoke_cluster::{Region, Result, Results};

use super::features::Prior;
use super::mixture;
use super::observations::{Scattered, read_points};
use super::spec::Spec;
use super::spectrum::Periodogram;
use super::statement::{Quantity, Statement};

/// Points of each axis at which a known solution is compared: primes.
const TEST_POINTS: [usize; 4] = [1999, 307, 61, 23];
/// Components of the learned mixture that are reported.
const REPORTED: usize = 64;

/// The equidistant grid of results.
#[derive(Debug, Clone)]
pub struct Grid {
    /// Points along each axis, measured from its start.
    pub points: Vec<Vec<f64>>,
    axes: Vec<Axis>,
}

impl Grid {
    /// The grid that the job asks for.
    pub fn new(spec: &Spec, statement: &Statement) -> Self {
        let (mut points, mut axes) = (Vec::new(), Vec::new());
        for (a, (axis, (start, length))) in statement.axes.iter().zip(&statement.boxes).enumerate() {
            let n = points_along(spec, statement, a);
            let spacing = length / if axis.periodic { n } else { n - 1 } as f64;
            points.push((0..n).map(|i| (i as f64 * spacing).min(*length)).collect());
            axes.push(Axis { name: axis.name.clone(), unit: "1".to_owned(), origin: *start, spacing });
        }
        Self { points, axes }
    }

    /// Number of points along each axis.
    pub fn shape(&self) -> Vec<usize> {
        self.points.iter().map(Vec::len).collect()
    }

    /// What an array on this grid means.
    pub fn meaning(&self, long_name: &str) -> Meaning {
        Meaning { long_name: long_name.to_owned(), unit: "1".to_owned(), axes: self.axes.clone() }
    }

    /// The same with a first axis of `name`, counted from 0.
    pub fn meaning_of_many(&self, name: &str, long_name: &str) -> Meaning {
        let mut meaning = self.meaning(long_name);
        let count = Axis { name: name.to_owned(), unit: "1".to_owned(), origin: 0.0, spacing: 1.0 };
        meaning.axes.insert(0, count);
        meaning
    }
}

/// Equidistant points of the result along an axis of the statement.
pub fn points_along(spec: &Spec, statement: &Statement, axis: usize) -> usize {
    let given = spec.output.points.as_ref().map(|points| points[statement.order[axis]]);
    given.unwrap_or(statement.axes[axis].points)
}

/// Dataset and description of a quantity.
pub fn label(quantity: &Quantity) -> (&str, String) {
    if quantity.name == "u" { ("solution", "solution u".to_owned()) } else { (&quantity.name, quantity.name.clone()) }
}

/// Points at which a known solution is compared, that no grid of a solver shares; `most` along each axis.
pub fn test_points(statement: &Statement, most: usize) -> Vec<Vec<f64>> {
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let n = TEST_POINTS[statement.boxes.len() - 1].min(most);
    let along = |(_, length): &(f64, f64)| (0..n).map(|i| length * (i as f64 + golden) / n as f64).collect();
    statement.boxes.iter().map(along).collect()
}

/// The user's own points.
///
/// # Errors
/// As [`read_points`].
pub fn own_points(spec: &Spec, statement: &Statement, inputs: &Inputs) -> Result<Option<Scattered>> {
    let Some(at) = &spec.output.at else { return Ok(None) };
    read_points("problem.output.at.dataset", &inputs.resolve(&at.file), &at.dataset, statement).map(Some)
}

/// The learned priors: line spectra, the mixtures that they amount to, and beside them the spectrum of the data.
///
/// # Errors
/// Data errors of writing.
pub fn priors(out: &mut Results, statement: &Statement, priors: &[Prior], data: &[Option<Periodogram>]) -> Result<()> {
    for ((axis, prior), data) in statement.axes.iter().zip(priors).zip(data) {
        let name = &axis.name;
        let cycles = "cycles per unit length";
        out.series(&format!("frequency_{name}"), &prior.frequencies, "1", cycles)?;
        out.series(&format!("deviation_{name}"), &prior.scales, "1", "prior standard deviation of the amplitude")?;
        let mut clusters = mixture::clusters(prior);
        clusters.truncate(REPORTED);
        let column = |of: fn(&mixture::Cluster) -> f64| clusters.iter().map(of).collect::<Vec<f64>>();
        out.series(&format!("mixture_frequency_{name}"), &column(|c| c.frequency), "1", cycles)?;
        out.series(&format!("mixture_weight_{name}"), &column(|c| c.weight), "1", "prior variance of the component")?;
        out.series(&format!("mixture_width_{name}"), &column(|c| c.width), "1", "deviation of its frequencies")?;
        if let Some(data) = data {
            spectra(out, name, prior, data)?;
        }
    }
    Ok(())
}

/// The periodogram of the data and, on the same frequencies, the learned prior: both with a largest value of 1.
fn spectra(out: &mut Results, axis: &str, prior: &Prior, data: &Periodogram) -> Result<()> {
    let spacing = data.frequencies.get(1).copied().unwrap_or(1.0);
    let mut learned = vec![0.0; data.frequencies.len()];
    for (xi, s) in prior.frequencies.iter().zip(&prior.scales) {
        if let Some(bin) = learned.get_mut((xi / spacing).round() as usize) {
            *bin += s * s;
        }
    }
    let largest = learned.iter().fold(f64::MIN_POSITIVE, |m, w| m.max(*w));
    learned.iter_mut().for_each(|w| *w /= largest);
    let cycles = Axis { name: format!("cycles_{axis}"), unit: "1".to_owned(), origin: 0.0, spacing };
    let shape = [learned.len()];
    for (name, values, long_name) in [
        ("data", &data.power, "periodogram of the equation without u"),
        ("learned", &learned, "learned prior weight of u"),
    ] {
        let meaning = Meaning { long_name: long_name.to_owned(), unit: "1".to_owned(), axes: vec![cycles.clone()] };
        let part = (Region::whole(&shape), out.is_root());
        out.array(&format!("{name}_spectrum_{axis}"), &shape, part, values, &meaning)?;
    }
    Ok(())
}
