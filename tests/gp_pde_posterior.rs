//! Posteriors of gp-pde: that intervals hold what they say, on draws from the prior that an independent formula made; that
//! unknown constants are found to within their error bars; and what files of arrays and measurements do.

mod common;

use std::path::Path;

use common::{doubles, figure, run_on_threads, scratch, write_arrays};
use convoke::registry;
use convoke_cluster::JobText;
use convoke_cluster::comm::run_threads;
use convoke_cluster::driver::{From, Options, Placement, Source};
use convoke_cluster::progress::Verbosity;
use convoke_cluster::workload::Inputs;
use convoke_data::store::Reader;
use convoke_kernels::Philox;

fn run(text: &str, base: &Path, ranks: usize, dir: &Path) {
    let text = JobText { path: base.join("job.toml"), text: text.to_owned() };
    run_on_threads("gp-pde", text, ranks, dir).into_iter().for_each(|outcome| drop(outcome.expect("the job runs")));
}

/// Derivative of order 0, 2 or 4 of exp(−z²/2ℓ²) cos mz: with q = −z²/2ℓ² + imz it is Re eᵠ times a polynomial in q′ and q″.
fn kernel(z: f64, l: f64, m: f64, order: usize) -> f64 {
    let (a, b, c) = (-z / (l * l), m, -1.0 / (l * l));
    // Powers of q′ = a + ib.
    let square = (a * a - b * b, 2.0 * a * b);
    let fourth = (square.0 * square.0 - square.1 * square.1, 2.0 * square.0 * square.1);
    let polynomial = match order {
        0 => (1.0, 0.0),
        2 => (square.0 + c, square.1),
        _ => (fourth.0 + 6.0 * c * square.0 + 3.0 * c * c, fourth.1 + 6.0 * c * square.1),
    };
    (-z * z / (2.0 * l * l)).exp() * (polynomial.0 * (m * z).cos() - polynomial.1 * (m * z).sin())
}

/// Lower triangular factor, row by row; pivots that rounding made negative are zero.
fn cholesky(a: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let n = a.len();
    let mut l = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| l[i][k] * l[j][k]).sum();
            l[i][j] = match i == j {
                true => (a[i][i] - sum).max(0.0).sqrt(),
                false if l[j][j] > 1e-7 * a[j][j].sqrt() => (a[i][j] - sum) / l[j][j],
                false => 0.0,
            };
        }
    }
    l
}

#[test]
fn intervals_hold_draws_from_the_prior() {
    assert_intervals_hold("direct");
}

#[test]
fn intervals_from_iterations_hold_draws_from_the_prior() {
    assert_intervals_hold("iterative");
}

/// 300 draws of u from a modulated Gaussian kernel by Cholesky factorisation of its formula; each with a noisy u″ at 40
/// points, 6 noisy values of u, and the exact u(0). At 5 points, 95 % intervals hold u in 93 to 97 of 100 cases.
#[allow(clippy::print_stderr, reason = "the figure is worth a look")]
fn assert_intervals_hold(method: &str) {
    let (l, m, draws) = (0.15, std::f64::consts::TAU * 2.0, 300);
    let nodes: Vec<f64> = (0..40).map(|i| i as f64 / 39.0).collect();
    let sensors = [0.05, 0.21, 0.37, 0.58, 0.74, 0.93];
    let tested = [0.113, 0.297, 0.503, 0.691, 0.887];
    let (equation_deviation, deviation) = (30.0, 0.1);
    // What is drawn together: (place, order of the derivative).
    let mut functionals = vec![(0.0, 0)];
    functionals.extend(sensors.iter().chain(&tested).map(|x| (*x, 0)));
    functionals.extend(nodes.iter().map(|x| (*x, 2)));
    let covariance: Vec<Vec<f64>> = functionals
        .iter()
        .map(|(x, p)| functionals.iter().map(|(y, q)| kernel(x - y, l, m, p + q)).collect())
        .collect();
    let factor = cholesky(&covariance);
    let job = format!(
        "schema = 1\nname = \"draw\"\nseed = SEED\nworkload = \"gp-pde\"\n[problem]\nequation = \"u_xx = f\"\n[[problem.arrays]]\nname = \
         \"f\"\nfile = \"f.h5\"\ndataset = \"/f\"\n[[problem.axes]]\nname = \"x\"\nto = 1.0\npoints = 40\nnodes = \
         \"uniform\"\n[[problem.conditions]]\nat = \"x = 0\"\nequation = \"u = START\"\n[[problem.observations]]\nfile = \
         \"u.h5\"\ndeviation = {deviation}\n[problem.posterior]\nequation_deviation = \
         {equation_deviation}\nmethod = \"{method}\"\n[[problem.prior.components]]\naxis = \"x\"\nkernel = \"gaussian\"\nfrequency = \
         2.0\nlength_scale = {l}\n[problem.output.at]\nfile = \"at.h5\"\n"
    );
    let scratch = scratch();
    let base = scratch.path();
    write_arrays(&base.join("at.h5"), &[("/points", &[5, 1], &tested)]);
    let (mut inside, mut squares) = (0, 0.0);
    for draw in 0..draws {
        let random = Philox::new(11, draw);
        let normal: Vec<f64> = (0..100).map(|i| random.normal(i)).collect();
        let u: Vec<f64> = factor.iter().map(|row| row.iter().zip(&normal).map(|(l, e)| l * e).sum::<f64>()).collect();
        let noisy = |first: usize, n: usize, noise: f64, seed: u64| -> Vec<f64> {
            let errors = Philox::new(seed, draw);
            (0..n).map(|i| u[first + i] + noise * errors.normal(i as u64)).collect()
        };
        write_arrays(&base.join("f.h5"), &[("/f", &[40], &noisy(12, 40, equation_deviation, 12))]);
        let measured = noisy(1, 6, deviation, 13);
        write_arrays(&base.join("u.h5"), &[("/points", &[6, 1], &sensors), ("/values", &[6], &measured)]);
        let dir = base.join(format!("run-{draw}"));
        // Each with draws of its own: the errors of deviations from 64 draws would be those of all 300 otherwise.
        run(&job.replace("START", &u[0].to_string()).replace("SEED", &draw.to_string()), base, 1, &dir);
        let (mean, sd) = (doubles(&dir, "solution_at_points"), doubles(&dir, "solution_deviation_at_points"));
        for (i, truth) in u[7..12].iter().enumerate() {
            let z = (mean[i] - truth) / sd[i];
            inside += usize::from(z.abs() <= 1.96);
            squares += z * z;
        }
        std::fs::remove_dir_all(&dir).expect("a run");
    }
    let n = (5 * draws) as f64;
    let (coverage, square) = (inside as f64 / n, squares / n);
    eprintln!("coverage {coverage:.4}, mean z² {square:.3}");
    assert!((0.93..=0.97).contains(&coverage), "coverage {coverage}, mean z² {square}");
    assert!((0.9..=1.1).contains(&square), "coverage {coverage}, mean z² {square}");
}

/// Two unknown constants in 20 data sets with other errors: at least 19 of 20 within three deviations, for each.
#[test]
fn unknown_constants_are_within_their_error_bars() {
    let scratch = scratch();
    let job = "schema = 1\nname = \"inverse\"\nworkload = \"gp-pde\"\nseed = SEED\n[problem]\nequation = \"u_xx + k*u + \
               q*u^2\"\nmanufactured = \"sin(9*x) + 0.5*cos(4*x)\"\n[[problem.unknowns]]\nname = \"k\"\nguess = \
               30.0\ntruth = 40.0\n[[problem.unknowns]]\nname = \"q\"\nguess = 0.0\ntruth = 3.0\n[[problem.axes]]\nname = \
               \"x\"\nto = 1.0\npoints = 24\n[[problem.conditions]]\nat = \"boundary\"\nequation = \
               \"u\"\n[[problem.observations]]\ncount = 30\ndeviation = 0.05\n[problem.posterior]\nequation_deviation = \
               0.5\n[[problem.prior.components]]\naxis = \"x\"\nkernel = \"gaussian\"\nlength_scale = 0.2\n";
    let mut within = [0, 0];
    let mut z = Vec::new();
    for seed in 0..20 {
        let dir = scratch.path().join(format!("run-{seed}"));
        run(&job.replace("SEED", &seed.to_string()), scratch.path(), 1, &dir);
        for (name, within) in ["k", "q"].iter().zip(&mut within) {
            let off = figure(&dir, &format!("{name}_error_in_deviations"));
            *within += usize::from(off.abs() < 3.0);
            z.push(off);
        }
    }
    assert!(within[0] >= 19 && within[1] >= 19, "{within:?} {z:?}");
    // Not too wide either: the mean square of 40 numbers that are nearly standard normal, three deviations of it.
    let square = z.iter().map(|z| z * z).sum::<f64>() / 40.0;
    assert!((0.3..=1.7).contains(&square), "{square} {z:?}");
}

/// What an array gives is what the same function typed out gives.
#[test]
fn arrays_from_files_are_as_good_as_expressions() {
    let scratch = scratch();
    let n = 60;
    let at = |i: usize| (std::f64::consts::PI * i as f64 / (2.0 * (n - 1) as f64)).sin().powi(2);
    let values: Vec<f64> = (0..n * n)
        .map(|k| (at(k / n), at(k % n)))
        .map(|(x, y)| -(20.0f64.powi(2) + 15.0f64.powi(2)) * (20.0 * x).sin() * (15.0 * y).cos())
        .collect();
    write_arrays(&scratch.path().join("f.h5"), &[("/f", &[n, n], &values)]);
    let job = "schema = 1\nname = \"a\"\nworkload = \"gp-pde\"\n[problem]\nequation = \"u_xx + u_yy = f\"\nmanufactured = \
               \"sin(20*x)*cos(15*y)\"\n[[problem.arrays]]\nname = \"f\"\nfile = \"f.h5\"\ndataset = \"/f\"\nnodes = \
               \"chebyshev\"\n[[problem.axes]]\nname = \"x\"\nto = 1.0\npoints = 60\n[[problem.axes]]\nname = \"y\"\nto = \
               1.0\npoints = 60\n[[problem.conditions]]\nat = \"boundary\"\nequation = \"u\"\n";
    for ranks in [1, 3] {
        let dir = scratch.path().join(format!("run-{ranks}"));
        run(job, scratch.path(), ranks, &dir);
        let error = figure(&dir, "relative_error");
        assert!(error < 1e-10, "{error:e}");
    }
}

/// What is wrong with files is said with key, file, and what was expected; nothing is computed.
#[test]
fn wrong_files_are_refused() {
    let scratch = scratch();
    let base = scratch.path();
    write_arrays(&base.join("f.h5"), &[("/f", &[5], &[1.0, 2.0, f64::NAN, 4.0, 5.0]), ("/g", &[2, 2], &[0.0; 4])]);
    write_arrays(&base.join("u.h5"), &[("/points", &[2, 1], &[0.5, 1.5]), ("/values", &[2], &[0.0; 2])]);
    write_arrays(&base.join("v.h5"), &[("/points", &[1, 1], &[0.5]), ("/values", &[2], &[0.0; 2])]);
    let head = "schema = 1\nname = \"a\"\nworkload = \"gp-pde\"\n[problem]\nequation = \"u_xx = EQUATION\"\n[[problem.axes]]\n\
                name = \"x\"\nto = 1.0\npoints = 40\n[[problem.conditions]]\nat = \"boundary\"\nequation = \"u = 0\"\n";
    let array = |dataset: &str| format!("[[problem.arrays]]\nname = \"f\"\nfile = \"f.h5\"\ndataset = \"{dataset}\"\n");
    let observed = |file: &str| format!("[[problem.observations]]\nfile = \"{file}\"\ndeviation = 0.1\n");
    let unknown = "[[problem.unknowns]]\nname = \"k\"\nguess = 1.0\n";
    let component = "[[problem.prior.components]]\naxis = \"y\"\nkernel = \"gaussian\"\nlength_scale = 1.0\n";
    let cases = [
        ("f", array("/f"), "value 2 (row-major, from 0) is NaN"),
        ("f", array("/g"), "an array with 1 dimension(s)"),
        ("f", array("/h"), "/h"),
        ("1", observed("u.h5"), "x = 1.5, which is not between 0 and 1"),
        ("1", observed("v.h5"), "there are 1 points and 2 values"),
        ("1", observed("w.h5"), "w.h5"),
        ("1", "[[problem.observations]]\ncount = 3\ndeviation = 0.1\n".to_owned(), "no `manufactured` solution"),
        ("1", "[[problem.observations]]\nfile = \"u.h5\"\ndeviation = -1.0\n".to_owned(), "a positive number"),
        ("1", "[problem.posterior]\ndraws = 1\n".to_owned(), "at least 2"),
        ("1", "[problem.posterior]\nmethod = \"exact\"\n".to_owned(), "iterative"),
        ("1", unknown.replace("\"k\"", "\"x\""), "has a meaning already"),
        ("1", component.to_owned(), "an axis: x"),
        ("1", "[problem.output]\nderivatives = [\"v_x\"]\n".to_owned(), "u or a derivative of it"),
    ];
    let entry = registry::find("gp-pde").expect("the workload is registered");
    for (equation, rest, words) in cases {
        let text = format!("{}{rest}", head.replace("EQUATION", equation));
        let text = JobText { path: base.join("job.toml"), text };
        let error = (entry.price)(&text, &Inputs { base: base.to_owned() }, &Placement::here(1, 1)).expect_err(words);
        assert_eq!(error.exit(), 2, "{error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
}

/// Two ways to one posterior: a noisy equation with a varying coefficient, an unknown constant, noisy measurements.
fn both_ways(method: &str, draws: usize) -> String {
    format!(
        "schema = 1\nname = \"ways\"\nworkload = \"gp-pde\"\n[problem]\nequation = \"u_xx + (1 + 0.3*x)*u_yy + \
         k*u\"\nmanufactured = \"sin(6*x + 1)*cos(5*y)\"\n[[problem.unknowns]]\nname = \"k\"\nguess = 10.0\ndeviation = \
         30.0\ntruth = 25.0\n[[problem.axes]]\nname = \"x\"\nto = 1.0\npoints = 14\n[[problem.axes]]\nname = \"y\"\nto = \
         1.0\npoints = 12\n[[problem.conditions]]\nat = \"x = 0\"\nequation = \"u\"\n[[problem.observations]]\ncount = \
         25\ndeviation = 0.1\n[problem.posterior]\nequation_deviation = 4.0\nsamples = 3\nsweeps = 0\nmethod = \
         \"{method}\"\ndraws = {draws}\n[[problem.prior.components]]\naxis = \"x\"\nkernel = \"gaussian\"\nlength_scale = \
         0.3\n[[problem.prior.components]]\naxis = \"y\"\nkernel = \"gaussian\"\nlength_scale = 0.3\n"
    )
}

/// Mean, draws (their perturbations are the same) and the constant's deviation are those of the dense factor, on any number
/// of ranks; variances from n draws follow χ²ₙ/n around the exact ones.
#[test]
fn iterations_find_the_posterior_of_the_dense_factor() {
    let scratch = scratch();
    let dir = |name: &str| scratch.path().join(name);
    let draws = 200;
    run(&both_ways("direct", draws), scratch.path(), 1, &dir("direct"));
    let exact = doubles(&dir("direct"), "solution_deviation");
    for ranks in [1, 3] {
        let name = format!("iterative-{ranks}");
        run(&both_ways("iterative", draws), scratch.path(), ranks, &dir(&name));
        for (what, n) in [("solution", 1), ("samples", 3)] {
            let (a, b) = (doubles(&dir("direct"), what), doubles(&dir(&name), what));
            assert_eq!(a.len(), n * exact.len());
            for (i, (a, b)) in a.iter().zip(&b).enumerate() {
                // In units of the posterior deviation there.
                let off = (a - b).abs() / exact[i % exact.len()].max(1e-3);
                assert!(off < 1e-5, "{what} {i}: {off:e}");
            }
        }
        for what in ["k", "k_deviation"] {
            let (a, b) = (figure(&dir("direct"), what), figure(&dir(&name), what));
            assert!((a / b - 1.0).abs() < 1e-6, "{what}: {a} {b}");
        }
        let n = draws as f64;
        assert_eq!(figure(&dir(&name), "deviation_draws"), n);
        assert!((figure(&dir(&name), "deviation_relative_error") - (0.5 / n).sqrt()).abs() < 1e-15);
        let estimated = doubles(&dir(&name), "solution_deviation");
        let z: Vec<f64> = estimated
            .iter()
            .zip(&exact)
            .filter(|(_, e)| **e > 1e-6)
            .map(|(s, e)| ((s / e).powi(2) - 1.0) * (n / 2.0).sqrt())
            .collect();
        // χ² of 200 degrees of freedom beyond 4.5 deviations: 1e-5, of 154 points at most.
        assert!(z.len() > 140 && z.iter().all(|z| z.abs() < 4.5), "{z:?}");
        let (mean, square) =
            (z.iter().sum::<f64>() / z.len() as f64, z.iter().map(|z| z * z).sum::<f64>() / z.len() as f64);
        // Points go together; their mean is that of at least one number of deviation 1.
        assert!(mean.abs() < 3.0 && square < 9.0, "{mean} {square}");
    }
}

/// Where waves are independent, deviations are exact without a draw: against the dense factor, for time with a periodic
/// axis, for two periodic axes with terms of every parity, and for derivatives.
#[test]
fn independent_waves_have_exact_deviations() {
    let scratch = scratch();
    let component = |axis: &str| {
        format!("[[problem.prior.components]]\naxis = \"{axis}\"\nkernel = \"gaussian\"\nlength_scale = 0.3\n")
    };
    let components = component("x") + &component("y");
    let job = |equation: &str, axes: &str, conditions: &str, method: &str| {
        format!(
            "schema = 1\nname = \"waves\"\nworkload = \"gp-pde\"\n[problem]\nequation = \"{equation}\"\nmanufactured = \
             \"sin(2*pi*x)*cos(2*pi*y)\"\n{axes}{conditions}[problem.posterior]\nequation_deviation = 2.0\nsweeps = \
             0\nmethod = \"{method}\"\n{components}[problem.output]\nderivatives = [\"u_x\", \"u_xy\"]\npoints = [9, 7]\n"
        )
    };
    let axis = |name: &str, points: usize, periodic: bool| {
        format!("[[problem.axes]]\nname = \"{name}\"\nto = 1.0\npoints = {points}\nperiodic = {periodic}\n")
    };
    let initial = "[[problem.conditions]]\nat = \"x = 0\"\nequation = \"u\"\n";
    let cases = [
        ("u_x - 0.05*u_yy + 0.7*u_y", axis("x", 12, false) + &axis("y", 15, true), initial),
        ("u_xx + u_yy + 0.4*u_xy + 3*u_x - u_y + 2*u", axis("x", 16, true) + &axis("y", 15, true), ""),
        ("u_xx + 2*u_yy - 5*u", axis("x", 15, true) + &axis("y", 16, true), ""),
    ];
    for (k, (equation, axes, conditions)) in cases.into_iter().enumerate() {
        let dir = |name: &str| scratch.path().join(format!("{k}-{name}"));
        run(&job(equation, &axes, conditions, "direct"), scratch.path(), 1, &dir("direct"));
        for ranks in [1, 2] {
            let name = format!("waves-{ranks}");
            run(&job(equation, &axes, conditions, "iterative"), scratch.path(), ranks, &dir(&name));
            let reader = Reader::open(dir(&name).join("result.h5")).expect("a result");
            let draws = reader.attribute("/result", "deviation_draws").expect("a group");
            assert!(draws.is_none(), "no draw is needed");
            for what in ["solution_deviation", "u_x_deviation", "u_xy_deviation"] {
                let (a, b) = (doubles(&dir("direct"), what), doubles(&dir(&name), what));
                let largest = a.iter().fold(0.0f64, |m, a| m.max(*a));
                assert!(largest > 0.0 && a.len() == 63);
                let off = a.iter().zip(&b).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
                assert!(off < 1e-7 * largest, "{equation}: {what} {off:e} of {largest:e}");
            }
        }
    }
}

/// An equation that is met to a billionth of its terms is too much for iterations: refused with what to do, the last
/// iterate kept.
#[test]
fn a_posterior_that_is_not_found_is_refused() {
    let scratch = scratch();
    let text = both_ways("iterative", 2).replace("equation_deviation = 4.0", "equation_deviation = 1e-7");
    let text = JobText { path: scratch.path().join("job.toml"), text };
    let dir = scratch.path().join("run");
    for outcome in run_on_threads("gp-pde", text, 2, &dir) {
        let error = outcome.expect_err("it is not found");
        assert!(error.to_string().contains("raise problem.posterior.equation_deviation"), "{error}");
        assert_eq!(error.exit(), 1);
    }
    let last: Vec<f64> = Reader::open(dir.join("last.h5")).expect("a file").read("/result/solution").expect("u");
    assert!(last.len() == 168 && last.iter().all(|u| u.is_finite()));
}

/// Weights that are learned from draws: stopped on two ranks and resumed on three, the same as never stopped.
#[test]
fn a_posterior_by_iterations_resumes_on_another_number_of_ranks() {
    let scratch = scratch();
    let text = both_ways("iterative", 4).replace("sweeps = 0", "sweeps = 2");
    let text = text.split("[[problem.prior.components]]").next().expect("the rest").to_owned();
    let (whole, parts) = (scratch.path().join("whole"), scratch.path().join("parts"));
    run(&text, scratch.path(), 1, &whole);
    let entry = registry::find("gp-pde").expect("the workload is registered");
    let options = |stop_after| Options { verbosity: Verbosity::Quiet, threads: 1, stop_after, ..Options::default() };
    let new = Source::New { text: JobText { path: scratch.path().join("job.toml"), text }, dir: parts.clone() };
    let resume = Source::Resume { dir: parts.clone(), from: From::Newest };
    for (ranks, source, stop) in [(2, &new, Some(2)), (3, &resume, None)] {
        for outcome in run_threads(ranks, |comm| (entry.run)(&comm, source, &options(stop))) {
            outcome.expect("the job runs");
        }
    }
    let (a, b) = (doubles(&whole, "solution"), doubles(&parts, "solution"));
    let deviations = doubles(&whole, "solution_deviation");
    for (i, (a, b)) in a.iter().zip(&b).enumerate() {
        assert!((a - b).abs() < 1e-5 * deviations[i].max(1e-3), "{i}: {a} {b}");
    }
    assert!(
        deviations.iter().zip(doubles(&parts, "solution_deviation")).all(|(a, b)| (a - b).abs() < 1e-5 * a.max(1e-3))
    );
}

/// A dense factor of ten thousand unknowns is refused before anything is computed; iterations are priced instead.
#[test]
fn a_direct_posterior_has_a_limit() {
    let job = "schema = 1\nname = \"a\"\nworkload = \"gp-pde\"\n[problem]\nequation = \"u_xx + u_yy = \
               sin(9*x)\"\n[[problem.axes]]\nname = \"x\"\nto = 1.0\npoints = 120\n[[problem.axes]]\nname = \"y\"\nto = \
               1.0\npoints = 120\n[[problem.conditions]]\nat = \"boundary\"\nequation = \
               \"u = 0\"\n[problem.posterior]\nequation_deviation = 0.1\n";
    let entry = registry::find("gp-pde").expect("the workload is registered");
    let price = |rest: &str| {
        let text =
            JobText { path: "job.toml".into(), text: format!("{job}{rest}[problem.prior]\nceilings = [30, 30]\n") };
        (entry.price)(&text, &Inputs { base: ".".into() }, &Placement::here(1, 1))
    };
    let error = price("method = \"direct\"\n").expect_err("too many");
    assert_eq!(error.exit(), 2);
    assert!(error.to_string().contains("problem.posterior.method") && error.to_string().contains("6000"), "{error}");
    price("").expect("iterations have no such limit");
}
