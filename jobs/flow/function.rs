//! Functions that a job file gives as expressions.

use convoke_cluster::BadValue;

use crate::expression::{Graph, Names, compile};

/// Part of a function's mean square that the modes may miss.
const MISSED: f64 = 1e-20;

/// A function of `axes`, as text; its value at a point.
///
/// # Errors
/// [`BadValue`] with the column.
pub fn function(key: &str, text: &str, axes: &[&str]) -> Result<impl Fn(&[f64]) -> f64 + use<>, BadValue> {
    let mut graph = Graph::new();
    let mut names = Names::new();
    let mut symbols = Vec::new();
    for name in axes {
        let symbol = graph.symbol(name);
        let node = graph.variable(symbol);
        names.insert(name, node);
        symbols.push(symbol);
    }
    let node = graph.parse(text, &names).map_err(|e| BadValue::wrong(key, e))?;
    let program = compile(&graph, &[node], &symbols).map_err(|e| BadValue::wrong(key, e))?;
    Ok(move |x: &[f64]| program.at(x)[0])
}

/// Values of the function `text` of `axes` at `points`.
///
/// # Errors
/// [`BadValue`] where it cannot be read or is not finite.
pub fn values<const D: usize>(
    key: &str,
    text: &str,
    axes: [&str; D],
    points: impl Iterator<Item = [f64; D]>,
) -> Result<Vec<f64>, BadValue> {
    let f = function(key, text, &axes)?;
    let value = |at: [f64; D]| {
        let value = f(&at);
        if value.is_finite() {
            return Ok(value);
        }
        let place: Vec<String> = axes.iter().zip(at).map(|(name, x)| format!("{name} = {x}")).collect();
        let place = place.join(", ");
        Err(BadValue::wrong(key, format!("{text:?} is {value} at {place}: expected a finite function")))
    };
    points.map(value).collect()
}

/// Whether modes up to `m` with the mean square `held` are all of the function `text`, whose values have the mean square `square`;
/// `grid` has the keys of points and length.
///
/// # Errors
/// [`BadValue`] with what to do.
pub fn resolved(
    (key, text): (&str, &str),
    [points, length]: [&str; 2],
    m: usize,
    held: f64,
    square: f64,
) -> Result<(), BadValue> {
    if square - held <= MISSED.sqrt() * square {
        return Ok(());
    }
    let message = format!("{text:?} has waves beyond mode {m} or does not repeat along the domain");
    let help = format!("raise {points} (modes below a third of them are kept), or check {length}");
    Err(BadValue::wrong(key, message).help(help))
}
