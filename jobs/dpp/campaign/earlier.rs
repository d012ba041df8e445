//! Results of earlier runs of this workload.

use std::path::{Path, PathBuf};

use convoke_cluster::sweep::{INPUTS, VARIABLES, result_of};
use convoke_cluster::workload::Inputs;
use convoke_cluster::{Error, JobText, Result};
use convoke_data::DataError;
use convoke_data::schema;
use convoke_data::store::Reader;
use faer::Mat;

use crate::dpp::space::Space;
use crate::dpp::space::indices::Rule;
use crate::dpp::spec::variable::Variable;
use crate::dpp::spec::{SpaceSpec, Spec};

/// Multi-indices of a result, `[function, variable]`.
pub const DEGREES: &str = "degrees";
/// Those that a fit recommends.
pub const ENRICHED: &str = "enriched";

/// The result of a run of task `design`.
#[derive(Debug, Clone)]
pub struct Earlier {
    /// Its file.
    pub path: PathBuf,
    /// The space that it was drawn for.
    pub space: Space,
    /// How that was written.
    pub spec: SpaceSpec,
    /// The variables in the user's units.
    pub variables: Vec<Variable>,
    /// `[n, d]`, as the families have them.
    pub points: Vec<f64>,
    /// w, `[n]`.
    pub weights: Vec<f64>,
    /// What held for it.
    pub holds: String,
    /// What did not.
    pub given_up: String,
}

impl Earlier {
    /// Reads the run at `path`.
    ///
    /// # Errors
    /// Data errors: no result, one of something else, or of several copies.
    pub fn open(path: &Path) -> Result<Self> {
        let path = result_of(path);
        let reader = Reader::open(&path)?;
        let wrong = |detail: String| Error::from(DataError::InvalidValue { path: path.clone(), detail });
        if !reader.has(&schema::result(INPUTS)) || !reader.has(schema::SPEC_TOML) {
            return Err(wrong("is no result of a dpp job with task = \"design\"".into()));
        }
        let text = JobText { path: path.clone(), text: reader.read_text(schema::SPEC_TOML)? };
        let problem = text.parse::<Spec>()?.problem;
        let spec = problem.space.ok_or_else(|| wrong("its job has no [problem.space]".into()))?;
        let (families, variables) = (spec.families()?, spec.variables()?);
        let degrees = degrees(&reader, DEGREES)?;
        let space = Space::new(&families, &Rule::List(degrees)).map_err(|e| wrong(e.to_string()))?;
        let (d, shape) = (families.len(), reader.shape(&schema::result("points"))?);
        if shape.len() != 3 || shape[0] != 1 || shape[2] != d {
            let detail =
                format!("its points have the shape {shape:?}, expected [1, n, {d}]: problem.design.copies = 1");
            return Err(wrong(detail));
        }
        let points = reader.read(&schema::result("points"))?;
        let weights = reader.read(&schema::result("weights"))?;
        let said = |name: &str| reader.text_attribute(schema::RESULT, name).unwrap_or_default();
        let (holds, given_up) = (said("holds"), said("given_up"));
        debug_assert_eq!(said(VARIABLES).split(',').count(), d);
        Ok(Self { space, spec, variables, points, weights, holds, given_up, path })
    }
}

/// All designs of a campaign: the same variables, one list of points.
#[derive(Debug, Clone)]
pub struct Designs(pub Vec<Earlier>);

impl Designs {
    /// Reads the runs that `key` names.
    ///
    /// # Errors
    /// As [`Earlier::open`]; designs over other variables.
    pub fn open(key: &str, paths: &[PathBuf], inputs: &Inputs) -> Result<Self> {
        let all = paths.iter().map(|path| Earlier::open(&inputs.resolve(path))).collect::<Result<Vec<_>>>()?;
        for other in all.iter().skip(1) {
            other.same_variables(key, &all[0])?;
        }
        Ok(Self(all))
    }

    /// The variables of all.
    pub fn variables(&self) -> &[Variable] {
        &self.0[0].variables
    }

    /// Points `[n, d]`, as the families have them.
    pub fn points(&self) -> Vec<f64> {
        self.0.iter().flat_map(|design| &design.points).copied().collect()
    }

    /// w, `[n]`.
    pub fn weights(&self) -> Vec<f64> {
        self.0.iter().flat_map(|design| &design.weights).copied().collect()
    }
}

impl Earlier {
    fn same_variables(&self, key: &str, other: &Self) -> Result<()> {
        let names = |all: &[Variable]| all.iter().map(|v| v.name.clone()).collect::<Vec<_>>().join(",");
        if self.variables == other.variables && self.spec.families()? == other.spec.families()? {
            return Ok(());
        }
        let (a, b) = (names(&other.variables), names(&self.variables));
        let message = format!(
            "{} is over {a}, {} over {b}, or in other families or ranges",
            other.path.display(),
            self.path.display()
        );
        Err(convoke_cluster::BadValue::wrong(key, message).help("one campaign has one set of variables").into())
    }
}

/// W^{1/2} Φ of points `[n, d]` with weights `[n]`.
pub fn weighted_features(space: &Space, points: &[f64], weights: &[f64]) -> Mat<f64> {
    let mut rows = Mat::zeros(weights.len(), space.len());
    space.features(points, rows.as_mut());
    for column in rows.col_iter_mut() {
        column.iter_mut().zip(weights).for_each(|(v, w)| *v *= w.sqrt());
    }
    rows
}

/// The functions that the fit at `path` recommends.
///
/// # Errors
/// Data errors: no result, or none of a fit.
pub fn enriched(path: &Path) -> Result<Vec<Vec<usize>>> {
    degrees(&Reader::open(result_of(path))?, ENRICHED)
}

fn degrees(reader: &Reader, name: &str) -> Result<Vec<Vec<usize>>> {
    let name = schema::result(name);
    let (shape, values): (Vec<usize>, Vec<f64>) = (reader.shape(&name)?, reader.read(&name)?);
    let whole = |v: &f64| v.fract() == 0.0 && (0.0..=65_536.0).contains(v);
    if shape.len() != 2 || shape.contains(&0) || !values.iter().all(whole) {
        let detail = format!("{name} of shape {shape:?} are no multi-indices");
        return Err(DataError::InvalidValue { path: reader.path().to_owned(), detail }.into());
    }
    Ok(values.chunks(shape[1]).map(|index| index.iter().map(|v| *v as usize).collect()).collect())
}
