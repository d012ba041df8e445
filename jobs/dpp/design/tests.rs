use crate::dpp::space::Space;
use faer::MatRef;

use super::*;
use crate::dpp::fit::fit;
use crate::dpp::space::family::Family;
use crate::dpp::space::indices::Rule;

/// A measure on N atoms with m functions that are orthonormal in L²(μ), and a law ν of independent points.
struct Atoms {
    mu: Vec<f64>,
    nu: Vec<f64>,
    phi: Mat<f64>,
    f: Vec<f64>,
}

impl Atoms {
    fn new(atoms: usize, functions: usize, seed: u64) -> Self {
        let stream = Stream::new(seed, 0, 0);
        let law = |first: u64| {
            let raw: Vec<f64> = (0..atoms as u64).map(|i| 0.2 + stream.choices(first + i).0).collect();
            let sum: f64 = raw.iter().sum();
            raw.iter().map(|v| v / sum).collect::<Vec<f64>>()
        };
        let (mu, nu) = (law(0), law(1000));
        let raw = Mat::from_fn(atoms, functions, |i, j| mu[i].sqrt() * stream.normal((i * functions + j) as u64));
        let q = raw.qr().compute_thin_Q();
        let phi = Mat::from_fn(atoms, functions, |i, j| q[(i, j)] / mu[i].sqrt());
        let f = (0..atoms as u64).map(|i| stream.normal(500 + i)).collect();
        Self { mu, nu, phi, f }
    }

    fn functions(&self) -> usize {
        self.phi.ncols()
    }

    fn square(&self, i: usize) -> f64 {
        self.phi.row(i).squared_norm_l2()
    }

    /// Probability that the process gives this ordered tuple: det²/m! ∏ μ.
    fn process(&self, points: &[usize]) -> f64 {
        let m = self.functions();
        let det = Mat::from_fn(m, m, |i, j| self.phi[(points[i], j)]).determinant();
        det * det / factorial(m) * points.iter().map(|i| self.mu[*i]).product::<f64>()
    }

    /// W^{1/2} Φ and weights for w = μ/ν of each point.
    fn rows(&self, points: &[usize], weight: impl Fn(usize) -> f64) -> (Mat<f64>, Vec<f64>) {
        let weights: Vec<f64> = points.iter().map(|i| weight(*i)).collect();
        let rows = Mat::from_fn(points.len(), self.functions(), |i, j| weights[i].sqrt() * self.phi[(points[i], j)]);
        (rows, weights)
    }

    /// E ĉ − c*, largest, where `probability` is that of a tuple of `n` points.
    fn bias(&self, n: usize, probability: impl Fn(&[usize]) -> f64, weight: impl Fn(usize) -> f64) -> f64 {
        let m = self.functions();
        let mut error: Vec<f64> = (0..m)
            .map(|j| -(0..self.mu.len()).map(|i| self.mu[i] * self.f[i] * self.phi[(i, j)]).sum::<f64>())
            .collect();
        let mut total = 0.0;
        for points in tuples(self.mu.len(), n) {
            let p = probability(&points);
            if p < 1e-14 {
                continue; // points that repeat: the process gives them with probability 0
            }
            total += p;
            let (rows, weights) = self.rows(&points, &weight);
            let y = Mat::from_fn(n, 1, |i, _| self.f[points[i]]);
            let c = fit(rows.as_ref(), &weights, y.as_ref()).unwrap().coefficients;
            (0..m).for_each(|j| error[j] += p * c[(j, 0)]);
        }
        assert!((total - 1.0).abs() < 1e-11, "probabilities sum to {total}");
        error.iter().fold(0.0, |m, e| m.max(e.abs()))
    }
}

fn factorial(n: usize) -> f64 {
    (1..=n).map(|i| i as f64).product()
}

fn tuples(atoms: usize, n: usize) -> Vec<Vec<usize>> {
    let all = 0..atoms.pow(n as u32);
    all.map(|code| (0..n).map(|i| code / atoms.pow(i as u32) % atoms).collect()).collect()
}

/// By enumeration to 1e-12: the process alone; volume sampling with the Christoffel measure and with any other. The same
/// sum finds that two repetitions of the process are biased.
#[test]
fn the_process_and_volume_sampling_are_unbiased_and_repetitions_are_not() {
    for seed in 1..4 {
        let atoms = Atoms::new(6, 2, seed);
        let m = 2;
        assert!(atoms.bias(m, |x| atoms.process(x), |_| 1.0) < 1e-12, "process");
        let christoffel = |i: usize| 2.0 / atoms.square(i);
        let any = |i: usize| atoms.mu[i] / atoms.nu[i];
        for n in [3, 4] {
            let law = |x: &[usize], nu: &dyn Fn(usize) -> f64| {
                atoms.process(&x[..m]) * x[m..].iter().map(|i| nu(*i)).product::<f64>()
            };
            let optimal = |i: usize| atoms.mu[i] * atoms.square(i) / 2.0;
            assert!(atoms.bias(n, |x| law(x, &optimal), christoffel) < 1e-12, "volume {n}");
            assert!(atoms.bias(n, |x| law(x, &|i| atoms.nu[i]), any) < 1e-12, "volume, another measure, {n}");
        }
        let repeated = atoms.bias(4, |x| atoms.process(&x[..2]) * atoms.process(&x[2..]), christoffel);
        assert!(repeated > 1e-3, "two repetitions are biased by {repeated}");
    }
}

/// The two-step draw, averaged over orders, is (n − m)!/n! det(ΦᵀWΦ) ∏ ν: to 1e-13 for every tuple.
#[test]
fn volume_sampling_in_two_steps_has_the_density_of_the_determinant() {
    let atoms = Atoms::new(5, 2, 9);
    let two_steps = |x: &[usize]| atoms.process(&x[..2]) * atoms.nu[x[2]];
    for x in tuples(5, 3) {
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let mixed = orders.iter().map(|o| two_steps(&o.map(|i| x[i]))).sum::<f64>() / 6.0;
        let (rows, _) = atoms.rows(&x, |i| atoms.mu[i] / atoms.nu[i]);
        let det = (rows.transpose() * &rows).determinant();
        let exact = det / 6.0 * x.iter().map(|i| atoms.nu[*i]).product::<f64>();
        assert!((mixed - exact).abs() < 1e-13, "{x:?}: {mixed} {exact}");
    }
}

fn legendre(degree: usize) -> Space {
    Space::new(&[Family::Legendre], &Rule::TotalDegree(degree)).unwrap()
}

fn recipe(law: Law, n: usize) -> Recipe {
    Recipe { law, n, measure: Measure::Christoffel, delta: None }
}

fn z(values: &[f64], exact: f64) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let spread = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>().sqrt() / values.len() as f64;
    (mean - exact) / spread
}

fn trace_of_inverse(rows: MatRef<'_, f64>) -> f64 {
    rows.singular_values().unwrap().iter().map(|s| 1.0 / (s * s)).sum()
}

/// E (ΦᵀWΦ)⁻¹ = I/(n − m + 1) for volume sampling of a measure without atoms, whatever ν: |z| < 4.5. Independent points
/// fail it.
#[test]
fn volume_samples_have_the_exact_mean_of_the_inverse() {
    let space = legendre(5);
    for measure in [Measure::Christoffel, Measure::Mixture] {
        let traces = |law: Law| -> Vec<f64> {
            let recipe = Recipe { law, n: 11, measure, delta: None };
            let trace = |r| trace_of_inverse(draw(&space, &recipe, None, (21, r), Par::Seq).unwrap().rows.as_ref());
            (0..3000).map(trace).collect()
        };
        let volume = z(&traces(Law::Volume), 1.0);
        assert!(volume.abs() < 4.5, "{measure:?}: z = {volume}");
        let mut iid = traces(Law::Iid);
        iid.sort_by(f64::total_cmp);
        // The median of the independent points' heavy tail already lies above the mean of volume samples.
        assert!(iid[1500] > 1.0, "{measure:?}: {}", iid[1500]);
    }
}

#[test]
fn weights_are_those_of_the_measure() {
    let space = Space::new(&[Family::Hermite; 2], &Rule::TotalDegree(3)).unwrap();
    for measure in [Measure::Christoffel, Measure::Mixture] {
        let recipe = Recipe { law: Law::Iid, n: 5000, measure, delta: None };
        let design = draw(&space, &recipe, None, (4, 0), Par::Seq).unwrap();
        // ∫ w dν = 1
        let z = z(&design.weights, 1.0);
        assert!(z.abs() < 4.5, "{measure:?}: z = {z}");
        for i in 0..design.weights.len() {
            let square = design.rows.row(i).squared_norm_l2();
            match measure {
                Measure::Christoffel => assert!((square - 10.0).abs() < 1e-10),
                Measure::Mixture => assert!(design.weights[i] <= 2.0 && square <= 20.0 + 1e-9),
            }
        }
    }
}

#[test]
fn points_come_from_their_streams() {
    let space = legendre(8);
    for law in [Law::Dpp, Law::Volume, Law::Repeated, Law::Greedy { pool: 3 }] {
        let n = if law == Law::Dpp { 9 } else { 13 };
        let design = draw(&space, &recipe(law, n), None, (6, 2), Par::Seq).unwrap();
        assert_eq!((design.points.len(), design.weights.len(), design.attempts), (n, n, 1));
        for i in 0..n {
            let mut x = [0.0];
            space.draw(&Stream::new(6, 2, design.parts[i]), design.indices[i], &mut x);
            assert_eq!(x[0], design.points[i], "{law:?} {i}");
        }
        let places: std::collections::HashSet<_> = design.parts.iter().zip(&design.indices).collect();
        assert_eq!(places.len(), n, "{law:?}: a point twice");
    }
}

#[test]
fn conditioned_designs_are_as_stable_as_asked_and_say_how_many_were_drawn() {
    let space = legendre(8);
    let conditioned = Recipe { delta: Some(0.7), ..recipe(Law::Volume, 18) };
    let designs: Vec<Design> = (0..30).map(|r| draw(&space, &conditioned, None, (2, r), Par::Seq).unwrap()).collect();
    assert!(designs.iter().all(|d| d.spectrum.min >= 0.3));
    assert!(designs.iter().any(|d| d.attempts > 1));
    let hopeless = Recipe { delta: Some(0.01), ..recipe(Law::Dpp, 9) };
    let error = draw(&space, &hopeless, None, (2, 0), Par::Seq).unwrap_err();
    assert!(matches!(error, DesignError::NeverStable { attempts: MAX_ATTEMPTS, .. }), "{error}");
}

#[test]
fn a_boosted_design_is_the_most_stable_of_its_tries() {
    let space = legendre(4);
    let distance = |law| draw(&space, &recipe(law, 15), None, (3, 0), Par::Seq).unwrap().spectrum.distance();
    assert!(distance(Law::Boosted { tries: 40 }) < distance(Law::Boosted { tries: 2 }));
    assert_eq!(distance(Law::Boosted { tries: 1 }), distance(Law::Iid));
}

/// The bound of the theorem, relative to the points that were chosen from, which are those of so many repetitions; G has the mean
/// eigenvalue 1.
#[test]
fn barriers_keep_the_eigenvalues_together() {
    let space = legendre(19);
    for n in [25, 40] {
        let chosen = draw(&space, &recipe(Law::Bss { pool: 6 }, n), None, (7, 0), Par::Seq).unwrap();
        let all = draw(&space, &recipe(Law::Repeated, 120), None, (7, 0), Par::Seq).unwrap();
        let ratio = |design: &Design| design.spectrum.max / design.spectrum.min;
        let most = bss::bound(n, 20) * ratio(&all);
        assert!(ratio(&chosen) <= most * (1.0 + 1e-9), "{} of {most}", ratio(&chosen));
        let trace = chosen.rows.squared_norm_l2() / n as f64;
        assert!((trace / 20.0 - 1.0).abs() < 1e-12, "{trace}");
        // Weights are what the rows say they are.
        let i = n / 2;
        let mut features = Mat::zeros(1, 20);
        space.features(&chosen.points[i..=i], features.as_mut());
        let row = chosen.rows.row(i).squared_norm_l2();
        assert!((chosen.weights[i] * features.squared_norm_l2() / row - 1.0).abs() < 1e-12);
    }
}
