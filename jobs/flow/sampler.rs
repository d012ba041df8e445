//! Between coefficients and values at the points of another grid.

use num_complex::Complex64;

use super::modes::Modes;
use super::transform::{Through, Transform};

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

    /// The coefficients of a real function with these values, zero in modes of `to` that the points do not hold.
    pub fn coefficients(&self, to: &Modes, values: &[f64]) -> Vec<Complex64> {
        let (here, half) = (&self.modes, self.modes.m);
        let (mut out, scale) = (vec![Complex64::ZERO; to.len()], 1.0 / (here.n * here.n) as f64);
        self.transform.from_values(
            &mut self.transform.work(),
            |x, line| line.iter_mut().zip(&values[x * here.n..]).for_each(|(z, v)| *z = Complex64::new(*v, 0.0)),
            |ky, row, _| {
                for column in 0..here.width() {
                    let kx = if column <= half { column as i64 } else { column as i64 - here.width() as i64 };
                    out[to.index(kx, ky)] = row[here.places(column).0] * scale;
                }
            },
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of a wave give the coefficients of the wave, whatever the grids.
    #[test]
    fn values_at_points_become_coefficients() {
        let modes = Modes::new(24, 5.0);
        for points in [9, 16] {
            let value = |i: usize| {
                let (x, y) = ((i / points) as f64 / points as f64, (i % points) as f64 / points as f64);
                (std::f64::consts::TAU * (2.0 * x - 3.0 * y) + 0.3).cos()
            };
            let values: Vec<f64> = (0..points * points).map(value).collect();
            let sampler = Sampler::new(&modes, points);
            let found = sampler.coefficients(&modes, &values);
            // cos(a + 0.3) = ½ e^{0.3 i} e^{ia} + …; the half plane holds (−2, 3).
            let due = Complex64::cis(-0.3) * 0.5;
            for ((kx, ky), c) in modes.each().zip(&found) {
                let expected = if (kx, ky) == (-2, 3) { due } else { Complex64::ZERO };
                assert!((c - expected).norm() < 1e-14, "{kx} {ky}: {c}");
            }
            let back = sampler.values(&modes, &found);
            assert!(back.iter().zip(&values).all(|(a, b)| (a - b).abs() < 1e-14));
        }
    }
}
