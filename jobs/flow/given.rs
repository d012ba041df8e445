//! Functions of x and y that a job file gives, as coefficients.

use convoke_cluster::BadValue;
use num_complex::Complex64;

use super::function;
use super::modes::Modes;
use super::transform::{Through, Transform};

/// Coefficients of the function `text` of x and y.
///
/// # Errors
/// [`BadValue`] where it cannot be read, is not finite, or is finer than the modes; `grid` has the keys of points and length.
pub fn coefficients(key: &str, text: &str, modes: &Modes, grid: [&str; 2]) -> Result<Vec<Complex64>, BadValue> {
    let transform = Transform::new(modes, false);
    let n = modes.n;
    let at = |i: usize| modes.length * i as f64 / n as f64;
    let values = function::values(key, text, ["x", "y"], (0..n * n).map(|i| [at(i / n), at(i % n)]))?;
    let square: f64 = values.iter().map(|v| v * v).sum();
    let scale = 1.0 / (n * n) as f64;
    let mut found = vec![Complex64::ZERO; modes.len()];
    let Ok(()) = transform.through(
        &mut transform.work(),
        |_, row, mirror| (row.fill(Complex64::ZERO), mirror.fill(Complex64::ZERO)).0,
        |x, lines| lines.iter_mut().zip(&values[x * n..]).for_each(|(to, v)| *to = Complex64::new(*v, 0.0)),
        |ky, row, _| {
            for (column, to) in found[ky * modes.width()..][..modes.width()].iter_mut().enumerate() {
                *to = row[modes.places(column).0] * scale;
            }
        },
    );
    function::resolved((key, text), grid, modes.m, modes.norm2(&found), square * scale)?;
    Ok(found)
}
