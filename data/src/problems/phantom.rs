//! Objects made of ellipsoids, in normalised coordinates: x, y, z in [-1, 1].
//!
//! The value at a point is the sum of the values of the ellipsoids that hold it. Line integrals
//! ([`Phantom::line_integrals`]) and volumes are known in closed form, and voxels
//! ([`Phantom::voxels`]) to any accuracy, so a reconstruction never meets data from its own
//! projector. This crate has no random numbers: generators take a closure that returns values
//! uniform in [0, 1).

use std::f64::consts::PI;

/// A solid ellipsoid of constant value.
#[derive(Clone, Debug, PartialEq)]
pub struct Ellipsoid {
    /// Centre (x, y, z).
    pub centre: [f64; 3],
    /// Half lengths along its own three axes, all > 0.
    pub semi_axes: [f64; 3],
    /// Row k is the direction (x, y, z) of axis k; an orthogonal matrix.
    pub axes: [[f64; 3]; 3],
    /// Added to the object inside.
    pub value: f64,
}

/// A named sum of ellipsoids.
#[derive(Clone, Debug, PartialEq)]
pub struct Phantom {
    /// For plots and files.
    pub name: String,
    /// The parts; where they overlap, their values add.
    pub ellipsoids: Vec<Ellipsoid>,
}

impl Ellipsoid {
    /// An ellipsoid rotated counter-clockwise about z by `phi_rad`.
    pub fn new(centre: [f64; 3], semi_axes: [f64; 3], phi_rad: f64, value: f64) -> Self {
        let (sin, cos) = phi_rad.sin_cos();
        let axes = [[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]];
        Self { centre, semi_axes, axes, value }
    }

    /// A ball.
    pub fn sphere(centre: [f64; 3], radius: f64, value: f64) -> Self {
        Self::new(centre, [radius; 3], 0.0, value)
    }

    /// The same ellipsoid with other directions: row k of `axes` is the unit vector of axis k.
    #[must_use]
    pub fn with_axes(self, axes: [[f64; 3]; 3]) -> Self {
        Self { axes, ..self }
    }

    /// Whether the point lies inside or on the surface.
    pub fn contains(&self, point: [f64; 3]) -> bool {
        let q = self.to_unit_ball(sub(point, self.centre));
        dot(q, q) <= 1.0
    }

    /// Value times volume: 4/3 π a b c · value.
    pub fn integral(&self) -> f64 {
        4.0 / 3.0 * PI * self.semi_axes.iter().product::<f64>() * self.value
    }

    /// W v, where W maps the ellipsoid, moved to the origin, onto the unit ball.
    pub(super) fn to_unit_ball(&self, v: [f64; 3]) -> [f64; 3] {
        std::array::from_fn(|k| dot(self.axes[k], v) / self.semi_axes[k])
    }
}

impl Phantom {
    /// Value at a point.
    pub fn value_at(&self, point: [f64; 3]) -> f64 {
        // The sum in the order of the parts, so that equal parts cancel exactly.
        self.ellipsoids.iter().filter(|part| part.contains(point)).map(|part| part.value).sum()
    }

    /// Integral over all space.
    pub fn integral(&self) -> f64 {
        self.ellipsoids.iter().map(Ellipsoid::integral).sum()
    }

    /// The 3-D Shepp–Logan head with the modified contrasts (values from 0 to 1).
    ///
    /// Source: M. Schabel, phantom3d (2006), after Toft (1996); the two ventricles are rotated by
    /// ∓18° about their own centres, as in the 2-D original.
    pub fn shepp_logan_3d() -> Self {
        #[rustfmt::skip]
        const TABLE: [[f64; 8]; 10] = [
            // value  a       b      c      x      y        z      phi in degrees
            [ 1.0,  0.6900, 0.920, 0.810,  0.00,  0.0000,  0.00,   0.0],
            [-0.8,  0.6624, 0.874, 0.780,  0.00, -0.0184,  0.00,   0.0],
            [-0.2,  0.1100, 0.310, 0.220,  0.22,  0.0000,  0.00, -18.0],
            [-0.2,  0.1600, 0.410, 0.280, -0.22,  0.0000,  0.00,  18.0],
            [ 0.1,  0.2100, 0.250, 0.410,  0.00,  0.3500, -0.15,   0.0],
            [ 0.1,  0.0460, 0.046, 0.050,  0.00,  0.1000,  0.25,   0.0],
            [ 0.1,  0.0460, 0.046, 0.050,  0.00, -0.1000,  0.25,   0.0],
            [ 0.1,  0.0460, 0.023, 0.050, -0.08, -0.6050,  0.00,   0.0],
            [ 0.1,  0.0230, 0.023, 0.020,  0.00, -0.6060,  0.00,   0.0],
            [ 0.1,  0.0230, 0.046, 0.020,  0.06, -0.6050,  0.00,   0.0],
        ];
        let ellipsoids = TABLE
            .iter()
            .map(|&[value, a, b, c, x, y, z, phi]| Ellipsoid::new([x, y, z], [a, b, c], phi.to_radians(), value))
            .collect();
        Self { name: "shepp-logan-3d".to_owned(), ellipsoids }
    }

    /// A random head: a shell of value 1, a base of value 0.3 inside it, and `n` ellipsoids with
    /// values from -0.1 to 0.2 that lie inside the base, rotated in any direction.
    pub fn random_ellipsoids(n: usize, mut uniform: impl FnMut() -> f64) -> Self {
        let mut between = |low: f64, high: f64| low + (high - low) * uniform();
        let outer: [f64; 3] = std::array::from_fn(|_| between(0.70, 0.92));
        let inner = outer.map(|axis| axis - 0.05);
        let phi = between(0.0, PI);
        let shell = Ellipsoid::new([0.0; 3], outer, phi, 1.0);
        let base = Ellipsoid::new([0.0; 3], inner, phi, -0.7);
        let radius = inner.into_iter().fold(f64::INFINITY, f64::min);
        let mut ellipsoids = vec![shell, base];
        for _ in 0..n {
            let semi_axes: [f64; 3] = std::array::from_fn(|_| between(0.05, 0.30));
            let longest = semi_axes.into_iter().fold(0.0, f64::max);
            // Uniform in the ball that keeps the part inside the base.
            let reach = (radius - longest) * between(0.0, 1.0).cbrt();
            let centre = direction(&mut between).map(|component| reach * component);
            let axes = rotation(&mut between);
            let value = between(-0.1, 0.2);
            ellipsoids.push(Ellipsoid::new(centre, semi_axes, 0.0, value).with_axes(axes));
        }
        Self { name: format!("head-{n}"), ellipsoids }
    }

    /// A foam: a ball of radius 0.95 and value 1 with up to `n_bubbles` spherical voids that do not
    /// overlap, large ones first. Fewer are placed when no room is found.
    pub fn foam(n_bubbles: usize, mut uniform: impl FnMut() -> f64) -> Self {
        const BALL: f64 = 0.95;
        const GAP: f64 = 0.005;
        const TRIES: usize = 200;
        let mut between = |low: f64, high: f64| low + (high - low) * uniform();
        let mut voids: Vec<([f64; 3], f64)> = Vec::with_capacity(n_bubbles);
        for k in 0..n_bubbles {
            // Radii fall like k^(-1/3): each octave of size takes the same share of the volume.
            let radius = (0.30 / ((k + 1) as f64).cbrt()).max(0.01) * between(0.8, 1.0);
            let free = |centre: [f64; 3]| {
                voids.iter().all(|&(other, r)| {
                    let d = sub(centre, other);
                    dot(d, d) >= (radius + r + GAP).powi(2)
                })
            };
            let place = (0..TRIES).find_map(|_| {
                let reach = (BALL - GAP - radius) * between(0.0, 1.0).cbrt();
                let centre = direction(&mut between).map(|component| reach * component);
                free(centre).then_some(centre)
            });
            voids.extend(place.map(|centre| (centre, radius)));
        }
        let mut ellipsoids = vec![Ellipsoid::sphere([0.0; 3], BALL, 1.0)];
        ellipsoids.extend(voids.iter().map(|&(centre, radius)| Ellipsoid::sphere(centre, radius, -1.0)));
        Self { name: format!("foam-{}", voids.len()), ellipsoids }
    }
}

/// A unit vector, uniform on the sphere.
fn direction(between: &mut impl FnMut(f64, f64) -> f64) -> [f64; 3] {
    let z = between(-1.0, 1.0);
    let (sin, cos) = between(0.0, 2.0 * PI).sin_cos();
    let r = (1.0 - z * z).sqrt();
    [r * cos, r * sin, z]
}

/// A rotation matrix: a uniform first axis and a uniform turn about it.
fn rotation(between: &mut impl FnMut(f64, f64) -> f64) -> [[f64; 3]; 3] {
    let first = direction(between);
    // Any vector that is not parallel to the first axis.
    let other = if first[0].abs() < 0.6 { [1.0, 0.0, 0.0] } else { [0.0, 1.0, 0.0] };
    let u = cross(first, other);
    let u = u.map(|component| component / dot(u, u).sqrt());
    let v = cross(first, u);
    let (sin, cos) = between(0.0, 2.0 * PI).sin_cos();
    let second = std::array::from_fn(|k| cos * u[k] + sin * v[k]);
    [first, second, cross(first, second)]
}

pub(super) fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(super) fn sub(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|k| a[k] - b[k])
}

pub(super) fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// SplitMix64 in [0, 1), for tests only.
#[cfg(test)]
pub(super) fn test_uniform(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shepp_logan_has_its_known_values() {
        let phantom = Phantom::shepp_logan_3d();
        for (point, value) in [
            ([0.0, 0.95, 0.0], 0.0),   // air
            ([0.0, 0.90, 0.0], 1.0),   // skull
            ([0.0, -0.40, 0.0], 0.2),  // brain
            ([0.25, 0.0, 0.0], 0.0),   // right ventricle
            ([-0.25, 0.0, 0.0], 0.0),  // left ventricle
            ([0.0, 0.40, -0.15], 0.3), // large tumour
            ([0.0, 0.10, 0.25], 0.3),  // small tumour
            ([0.0, -0.606, 0.0], 0.3), // smallest tumour
            ([0.0, 0.0, 0.79], 1.0),   // skull at the top
        ] {
            assert!((phantom.value_at(point) - value).abs() < 1e-12, "{point:?}");
        }
        // The ventricles lean outwards at the top (+y), as in the 2-D original.
        assert!(phantom.value_at([0.22 + 0.08, 0.25, 0.0]) < 0.1);
        assert!(phantom.value_at([0.22 - 0.08, 0.25, 0.0]) > 0.1);
    }

    #[test]
    fn random_heads_stay_inside_the_shell_and_depend_on_the_seed_only() {
        let phantom = Phantom::random_ellipsoids(8, test_uniform(1));
        assert_eq!(phantom, Phantom::random_ellipsoids(8, test_uniform(1)));
        assert_ne!(phantom, Phantom::random_ellipsoids(8, test_uniform(2)));
        for part in &phantom.ellipsoids[2..] {
            for k in 0..6 {
                let sign = if k < 3 { 1.0 } else { -1.0 };
                let axis = part.axes[k % 3].map(|c| sign * c * part.semi_axes[k % 3] * 0.999);
                let tip = std::array::from_fn(|i| part.centre[i] + axis[i]);
                assert!(part.contains(tip) && phantom.ellipsoids[1].contains(tip));
            }
            for (i, row) in part.axes.iter().enumerate() {
                for (j, other) in part.axes.iter().enumerate() {
                    assert!((dot(*row, *other) - f64::from(i == j)).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn foam_bubbles_do_not_overlap() {
        let phantom = Phantom::foam(300, test_uniform(3));
        let voids = &phantom.ellipsoids[1..];
        assert!(voids.len() > 250, "{}", voids.len());
        for (i, a) in voids.iter().enumerate() {
            assert!(dot(a.centre, a.centre).sqrt() + a.semi_axes[0] < 0.95);
            for b in &voids[..i] {
                let d = sub(a.centre, b.centre);
                assert!(dot(d, d).sqrt() > a.semi_axes[0] + b.semi_axes[0]);
            }
        }
        let porosity = 1.0 - phantom.integral() / phantom.ellipsoids[0].integral();
        assert!((0.1..0.6).contains(&porosity), "{porosity}");
    }
}
