//! Two results side by side: only what differs.

use std::collections::BTreeMap;

use convoke_cluster::Error;
use convoke_data::schema;
use convoke_data::store::{Dtype, Entry, Reader};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;

use super::apart::{Apart, Norm, PIECE, Sums, Tolerance};
use super::array;
use super::number::{exact, label, short};
use super::picture::{Look, Picture, draw_difference};
use super::scan::{Plane, Wanted, blocks, read};

/// What is different about one name.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
    /// Only B has it.
    MissingInA,
    /// Only A has it.
    MissingInB,
    /// The shapes differ.
    Shape { a: Vec<usize>, b: Vec<usize> },
    /// The element types differ and one is no number.
    Type { a: String, b: String },
    /// The values differ.
    Values(Apart),
    /// A figure differs.
    Figure { a: Value, b: Value },
    /// Texts differ; the first that does.
    Text { a: String, b: String },
    /// The elements are neither numbers nor texts: nobody looked at them.
    NotCompared { dtype: String },
}

/// One difference.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// Path in the file; `/result@name` for a figure.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub finding: Finding,
    /// Whether it lies beyond the tolerance.
    pub beyond: bool,
}

/// The outcome of a comparison.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// First file.
    pub a: String,
    /// Second file: the reference.
    pub b: String,
    /// What was allowed.
    pub tolerance: Tolerance,
    /// Names compared.
    pub compared: usize,
    /// Of them, bitwise equal.
    pub identical: usize,
    /// Whether nothing lies beyond the tolerance.
    pub equal: bool,
    /// The rest.
    pub differences: Vec<Difference>,
}

/// Compares all arrays below `/result` and `/history`, and the figures.
///
/// # Errors
/// A damaged file.
pub fn compare(
    a: &Reader,
    b: &Reader,
    tolerance: Tolerance,
    look: Option<&Look>,
) -> Result<(Comparison, Vec<Picture>), Error> {
    let (in_a, in_b) = (names(a)?, names(b)?);
    let mut all: Vec<&String> = in_a.keys().chain(in_b.keys().filter(|n| !in_a.contains_key(*n))).collect();
    all.sort();
    let mut differences = Vec::new();
    for name in &all {
        let finding = match (in_a.get(*name), in_b.get(*name)) {
            (Some(x), Some(y)) => entries(a, b, (x, y), tolerance)?,
            (Some(_), None) => Some(Finding::MissingInB),
            _ => Some(Finding::MissingInA),
        };
        differences.extend(finding.map(|finding| ((*name).clone(), finding)));
    }
    let figures = figures(a, b)?;
    let compared = all.len() + figures.len();
    differences.extend(figures.into_iter().filter_map(|(name, finding)| Some((name, finding?))));
    let differences: Vec<Difference> =
        differences.into_iter().map(|(name, finding)| judge(name, finding, tolerance)).collect();
    let pictures = match look {
        Some(look) => pictures(a, b, &differences, look)?,
        None => Vec::new(),
    };
    let shown = |file: &Reader| file.path().display().to_string();
    let (identical, equal) = (compared - differences.len(), !differences.iter().any(|d| d.beyond));
    Ok((Comparison { a: shown(a), b: shown(b), tolerance, compared, identical, equal, differences }, pictures))
}

fn judge(name: String, finding: Finding, tolerance: Tolerance) -> Difference {
    let beyond = match &finding {
        Finding::Values(apart) => apart.beyond > 0,
        Finding::Figure { a, b } => !a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| tolerance.allows(a, b)),
        Finding::NotCompared { .. } => false,
        _ => true,
    };
    Difference { name, finding, beyond }
}

/// The arrays that count: those below `/result` and `/history`, or all of a foreign file.
fn names(file: &Reader) -> Result<BTreeMap<String, Entry>, Error> {
    let ours = file.has(schema::RESULT) || file.has(schema::HISTORY);
    let counts =
        |name: &str| !ours || [schema::RESULT, schema::HISTORY].iter().any(|g| name.starts_with(&format!("{g}/")));
    Ok(file.list()?.into_iter().filter(|e| counts(&e.name)).map(|e| (e.name.clone(), e)).collect())
}

fn figures(a: &Reader, b: &Reader) -> Result<Vec<(String, Option<Finding>)>, Error> {
    let of = |file: &Reader| {
        if file.has(schema::RESULT) { array::attributes(file, schema::RESULT) } else { Ok(serde_json::Map::new()) }
    };
    let (in_a, in_b) = (of(a)?, of(b)?);
    let names: Vec<&String> = in_a.keys().chain(in_b.keys().filter(|n| !in_a.contains_key(*n))).collect();
    let one = |name: &String| match (in_a.get(name), in_b.get(name)) {
        (Some(x), Some(y)) => (x != y).then(|| Finding::Figure { a: x.clone(), b: y.clone() }),
        (Some(_), None) => Some(Finding::MissingInB),
        _ => Some(Finding::MissingInA),
    };
    Ok(names.into_iter().map(|name| (format!("{}@{name}", schema::RESULT), one(name))).collect())
}

fn entries(a: &Reader, b: &Reader, (x, y): (&Entry, &Entry), tolerance: Tolerance) -> Result<Option<Finding>, Error> {
    if x.shape != y.shape {
        return Ok(Some(Finding::Shape { a: x.shape.clone(), b: y.shape.clone() }));
    }
    let numeric = |e: &Entry| e.dtype.converts_to(&Dtype::Float(8));
    match (numeric(x), numeric(y)) {
        (true, true) => Ok(values(a, b, x, tolerance)?.map(Finding::Values)),
        (false, false) if x.dtype == y.dtype => Ok(texts(a, b, x)?),
        _ => Ok(Some(Finding::Type { a: x.dtype.to_string(), b: y.dtype.to_string() })),
    }
}

/// Two arrays of one shape that hold no numbers.
fn texts(a: &Reader, b: &Reader, entry: &Entry) -> Result<Option<Finding>, Error> {
    let pair =
        if entry.dtype == Dtype::Text { a.read_texts(&entry.name)?.zip(b.read_texts(&entry.name)?) } else { None };
    let Some((x, y)) = pair else { return Ok(Some(Finding::NotCompared { dtype: entry.dtype.to_string() })) };
    let first = x.into_iter().zip(y).find(|(x, y)| x != y);
    Ok(first.map(|(a, b)| Finding::Text { a, b }))
}

/// Two arrays of one shape, block by block.
fn values(a: &Reader, b: &Reader, entry: &Entry, tolerance: Tolerance) -> Result<Option<Apart>, Error> {
    let mut sums = Sums::default();
    for block in blocks(&entry.shape) {
        let (left, right) = (read(a, &entry.name, &block)?, read(b, &entry.name, &block)?);
        let pieces = left.par_chunks(PIECE).zip(right.par_chunks(PIECE)).enumerate();
        let parts: Vec<Sums> = pieces.map(|(k, pair)| Sums::of(block.offset + k * PIECE, pair, tolerance)).collect();
        sums = parts.into_iter().fold(sums, Sums::merge);
    }
    Ok(sums.finish(&entry.shape))
}

/// Pictures of `a − b` for arrays with two axes or more, through the largest difference.
fn pictures(a: &Reader, b: &Reader, differences: &[Difference], look: &Look) -> Result<Vec<Picture>, Error> {
    let mut pictures = Vec::new();
    for array in array::list(a)? {
        let found = differences.iter().find(|d| d.name == array.path).map(|d| &d.finding);
        let Some(Finding::Values(apart)) = found else { continue };
        let at = array.axes.iter().zip(&apart.worst).map(|(axis, &k)| (axis.name.clone(), k));
        let look = Look { slices: at.chain(look.slices.iter().cloned()).collect(), ..look.clone() };
        let Wanted::Planes(mut planes) = look.wanted(&array) else { continue };
        for block in blocks(&array.shape) {
            let (left, right) = (read(a, &array.path, &block)?, read(b, &array.path, &block)?);
            let difference: Vec<f64> = left.iter().zip(&right).map(|(x, y)| x - y).collect();
            planes.iter_mut().for_each(|p: &mut Plane| p.take(&array.shape, block.offset, &difference));
        }
        let note = format!("A − B through the largest, {} at {:?}", label(apart.linf.absolute), apart.worst);
        pictures.push(draw_difference(&array, &planes, &look, &note));
    }
    Ok(pictures)
}

impl Comparison {
    /// The comparison as text: one line if all is equal.
    pub fn text(&self) -> String {
        let mut lines = vec![format!("A {}\nB {}", self.a, self.b)];
        lines.extend(self.differences.iter().map(Difference::text));
        let unseen = self.differences.iter().filter(|d| matches!(d.finding, Finding::NotCompared { .. })).count();
        let (n, same) = (self.compared - unseen, self.identical);
        let allowed = format!("rtol {}, atol {}", short(self.tolerance.rtol), short(self.tolerance.atol));
        lines.push(match (self.equal, n == same) {
            (true, true) => format!("equal: {n} of {n} bitwise identical"),
            (true, false) => {
                format!("equal within {allowed}: {same} of {n} bitwise identical, {} within the tolerance", n - same)
            }
            _ => format!(
                "DIFFERENT: {} of {n} beyond {allowed}, {same} bitwise identical",
                self.differences.iter().filter(|d| d.beyond).count()
            ),
        });
        lines.join("\n")
    }
}

impl Difference {
    fn text(&self) -> String {
        let name = &self.name;
        let mark = match self.finding {
            Finding::NotCompared { .. } => "?",
            _ if self.beyond => "≠",
            _ => "≈",
        };
        match &self.finding {
            Finding::MissingInA => format!("{mark} {name}: only in B"),
            Finding::MissingInB => format!("{mark} {name}: only in A"),
            Finding::Shape { a, b } => format!("{mark} {name}: shape {a:?} in A, {b:?} in B"),
            Finding::Type { a, b } => format!("{mark} {name}: {a} in A, {b} in B"),
            Finding::Figure { a, b } => format!("{mark} {name}: {a} in A, {b} in B"),
            Finding::Text { a, b } => format!("{mark} {name}: {a:?} in A, {b:?} in B"),
            Finding::NotCompared { dtype } => format!("{mark} {name}: not compared, its elements are {dtype}"),
            Finding::Values(d) => {
                let norm =
                    |name: &str, n: Norm| format!("{name} {} (relative {})", short(n.absolute), short(n.relative));
                let place = |index: &[usize], (a, b): (f64, f64)| format!("{index:?}: A {}, B {}", exact(a), exact(b));
                let odd = if d.not_finite > 0 {
                    format!(", {} with a NaN or infinity on one side", d.not_finite)
                } else {
                    String::new()
                };
                format!(
                    "{mark} {name}: {} of {} elements differ, {} beyond the tolerance{odd}\n    {}, {}, {}\n    first at {}\n    largest at {}",
                    d.different,
                    d.elements,
                    d.beyond,
                    norm("L1", d.l1),
                    norm("L2", d.l2),
                    norm("Linf", d.linf),
                    place(&d.first, d.at_first),
                    place(&d.worst, d.at_worst),
                )
            }
        }
    }
}
