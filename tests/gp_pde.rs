//! gp-pde against exact solutions: the problems of the GP-HM paper (ICLR 2024) on its grids, and others; errors are
//! relative, in L2, at points that no grid of the solver shares.

mod common;

use std::path::Path;

use common::{doubles, figure, run_on_threads, scratch, told, write_arrays};
use convoke::registry;
use convoke_cluster::comm::run_threads;
use convoke_cluster::driver::{From, Options, Placement, Source};
use convoke_cluster::progress::Verbosity;
use convoke_cluster::workload::Inputs;
use convoke_cluster::{Error, JobText};
use convoke_data::store::Reader;

fn job(text: &str) -> JobText {
    JobText { path: "job.toml".into(), text: text.to_owned() }
}

fn shipped(name: &str) -> &'static str {
    let entry = registry::find("gp-pde").expect("the workload is registered");
    entry.jobs.iter().find(|(n, _)| *n == name).expect("the job file is shipped").1
}

fn run(text: &str, ranks: usize, dir: &Path) {
    let outcomes = run_on_threads("gp-pde", job(text), ranks, dir);
    outcomes.into_iter().for_each(|outcome| drop(outcome.expect("the job runs")));
}

fn solution(dir: &Path) -> Vec<f64> {
    doubles(dir, "solution")
}

/// The error of a shipped job.
fn error_of(name: &str) -> f64 {
    let scratch = scratch();
    run(shipped(name), 1, &scratch.path().join("run"));
    figure(&scratch.path().join("run"), "relative_error")
}

#[test]
fn the_papers_problems_on_its_grids() {
    let thresholds = [
        ("poisson-1d-sin", 1e-8),
        ("poisson-1d-mix", 1e-8),
        ("poisson-1d-sin-cos", 1e-8),
        ("poisson-1d-x-sin", 1e-8),
        ("poisson-1d-sin-parabola", 1e-8),
        ("allen-cahn-1d-sin", 1e-8),
        ("allen-cahn-1d-sin-cos", 1e-8),
        ("poisson-2d-sin-sin", 1e-10),
        ("poisson-2d-additive", 1e-9),
        ("allen-cahn-2d-mix", 1e-9),
        ("advection", 1e-7),
    ];
    for (name, threshold) in thresholds {
        let error = error_of(name);
        assert!(error <= threshold, "{name}: {error:.1e}, {threshold:.0e} is due");
    }
}

#[test]
fn every_kind_of_condition_and_equation() {
    let thresholds = [
        ("helmholtz-2d", 1e-9),            // Dirichlet, Neumann and Robin ends
        ("variable-coefficient-2d", 1e-9), // GMRES around the mean coefficient
        ("wave-2d", 1e-8),                 // initial value and velocity, periodic
        ("reaction-diffusion", 1e-9),      // time with Neumann ends, cubic
        ("burgers", 1e-9),                 // u u_x
        ("kdv", 1e-7),                     // third order, periodic, no source
        ("allen-cahn-3d", 1e-7),
        ("sparse-2d", 1e-9),  // 2.4 points per wavelength
        ("off-bin-2d", 1e-9), // frequencies that fit no axis
        ("chirp-1d", 1e-9),
        ("off-bin-sparse-2d", 1e-8), // and at 3.1 points per wavelength
        ("burgers-long", 1e-9),      // four windows of time
        ("cases-2d", 1e-9),          // four right-hand sides
        ("cubic-1d", 1e-9),          // continuation
    ];
    for (name, threshold) in thresholds {
        let error = error_of(name);
        assert!(error <= threshold, "{name}: {error:.1e}, {threshold:.0e} is due");
    }
}

/// The solver sees a right-hand side and data, whoever made them: the manufactured solution changes no bit.
#[test]
fn the_solution_is_hidden_from_the_solver() {
    let axes = "[[problem.axes]]\nname = \"x\"\nto = 1.0\npoints = 60\n[[problem.axes]]\nname = \"y\"\nto = 1.0\npoints = 50\n";
    let head = "schema = 1\nname = \"a\"\nworkload = \"gp-pde\"\n[problem]\n";
    let with = format!(
        "{head}equation = \"u_xx + u_yy\"\nmanufactured = \"sin(20*x)*cos(15*y)\"\n{axes}[[problem.conditions]]\nat = \
         \"boundary\"\nequation = \"u\"\n"
    );
    let without = format!(
        "{head}equation = \"u_xx + u_yy = -(20^2 + 15^2)*sin(20*x)*cos(15*y)\"\n{axes}[[problem.conditions]]\nat = \
         \"boundary\"\nequation = \"u = sin(20*x)*cos(15*y)\"\n"
    );
    let scratch = scratch();
    run(&with, 1, &scratch.path().join("with"));
    run(&without, 1, &scratch.path().join("without"));
    let (a, b) = (solution(&scratch.path().join("with")), solution(&scratch.path().join("without")));
    assert_eq!(a.len(), 3000);
    for (i, (a, b)) in a.iter().zip(&b).enumerate() {
        let (x, y) = ((i / 50) as f64 / 59.0, (i % 50) as f64 / 49.0);
        assert!((a - b).abs() < 1e-11);
        assert!((a - (20.0 * x).sin() * (15.0 * y).cos()).abs() < 1e-9);
    }
}

/// Any number of ranks gives the same numbers up to rounding in f64.
#[test]
fn ranks_agree_to_rounding() {
    let scratch = scratch();
    for name in ["burgers", "allen-cahn-3d", "poisson-2d-additive"] {
        let dir = |ranks: usize| scratch.path().join(format!("{name}-{ranks}"));
        run(shipped(name), 1, &dir(1));
        let one = solution(&dir(1));
        let largest = one.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        for ranks in [2, 3, 4] {
            run(shipped(name), ranks, &dir(ranks));
            let difference = one.iter().zip(solution(&dir(ranks))).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
            assert!(difference <= 1e-9 * largest, "{name} on {ranks} ranks: {difference:e}");
        }
    }
}

/// More ranks than points of any axis: groups of ranks share slabs, and a checkpoint of them goes on as slabs.
#[test]
fn pencils_agree_to_rounding_and_resume_as_slabs() {
    let axes: Vec<String> = [("x", 12), ("y", 10), ("z", 11)]
        .map(|(a, n)| format!("[[problem.axes]]\nname = \"{a}\"\nto = 1.0\npoints = {n}\n"))
        .into();
    let text = format!(
        "schema = 1\nname = \"a\"\nworkload = \"gp-pde\"\n[problem]\nequation = \"u_xx + u_yy + u_zz + u*(u^2 - \
         1)\"\nmanufactured = \"sin(3*x)*cos(2*y)*sin(4*z)\"\nsolver.sweeps = 1\n{}[[problem.conditions]]\nat = \
         \"boundary\"\nequation = \"u\"\n",
        axes.concat()
    );
    let scratch = scratch();
    let dir = |name: &str| scratch.path().join(name);
    run(&text, 1, &dir("one"));
    run(&text, 24, &dir("many"));
    let entry = registry::find("gp-pde").expect("the workload is registered");
    let options = |stop_after| Options { verbosity: Verbosity::Quiet, threads: 1, stop_after, ..Options::default() };
    let new = Source::New { text: job(&text), dir: dir("parts") };
    let resume = Source::Resume { dir: dir("parts"), from: From::Newest };
    for (ranks, source, stop) in [(24, &new, Some(2)), (3, &resume, Some(1)), (20, &resume, None)] {
        for outcome in run_threads(ranks, |comm| (entry.run)(&comm, source, &options(stop))) {
            outcome.expect("the job runs");
        }
    }
    let one = solution(&dir("one"));
    let largest = one.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for name in ["many", "parts"] {
        let difference = one.iter().zip(solution(&dir(name))).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
        assert!(difference <= 1e-9 * largest, "{name}: {difference:e}");
    }
}

/// What is refused, with the words that say why.
#[test]
fn what_cannot_be_solved_is_refused() {
    let entry = registry::find("gp-pde").expect("the workload is registered");
    let base = "schema = 1\nname = \"a\"\nworkload = \"gp-pde\"\n[problem]\nequation = \"EQUATION\"\n[[problem.axes]]\nname = \
                \"x\"\nto = 1.0\npoints = 40\n[[problem.conditions]]\nat = \"PLACE\"\nequation = \"u = 0\"\n";
    let cases = [
        ("u_xx + (u = 1", "boundary", "problem.equation"),
        ("u_xx + 2*) = 1", "boundary", "in column 10"),
        ("u_xx + vv*u = 1", "boundary", "unknown name `vv`"),
        ("sin(x) = 1", "boundary", "does not contain u"),
        ("u_xx = 1", "x = 0", "needs 2 condition(s), and there is 1"),
        ("u_xx = 1", "x = 0.5", "x = 0 or 1"),
        ("u_xx = 1", "y = 0", "an end of an axis"),
        ("u_xx = sin(200*x)", "boundary", "periods along x, and a period needs two points"),
        ("u_xx - y = 0", "boundary", "unknown name `y`"),
        ("u_xx", "boundary", "left = right"),
    ];
    for (equation, place, words) in cases {
        let text = job(&base.replace("EQUATION", equation).replace("PLACE", place));
        let error = (entry.price)(&text, &Inputs { base: ".".into() }, &Placement::here(1, 1)).expect_err(equation);
        assert_eq!(error.exit(), 2, "{equation}");
        assert!(error.to_string().contains(words), "{equation}: {error}");
    }
}

/// Neumann ends all round leave a constant free: refused as singular, not answered with noise.
#[test]
fn an_undetermined_constant_is_refused() {
    let text = "schema = 1\nname = \"a\"\nworkload = \"gp-pde\"\n[problem]\nequation = \"u_xx = \
                cos(6*x)\"\n[[problem.axes]]\nname = \"x\"\nto = 1.0\npoints = 40\n[[problem.conditions]]\nat = \
                \"boundary\"\nequation = \"u_x = 0\"\n";
    let scratch = scratch();
    let outcomes = run_on_threads("gp-pde", job(text), 1, &scratch.path().join("run"));
    let error = outcomes.into_iter().next().expect("one rank").expect_err("singular");
    assert!(matches!(error, Error::Workload { .. } | Error::Agreed(_)), "{error}");
    assert!(error.to_string().contains("singular"), "{error}");
}

/// A problem without a solution (Bratu's beyond its fold, at 3.51): the error says so, and the last iterate is there.
#[test]
fn without_convergence_the_last_iterate_is_kept() {
    let text = "schema = 1\nname = \"a\"\nworkload = \"gp-pde\"\n[problem]\nequation = \"u_xx + 100*exp(u) = \
                0\"\n[[problem.axes]]\nname = \"x\"\nto = 1.0\npoints = 30\n[[problem.conditions]]\nat = \
                \"boundary\"\nequation = \"u = 0\"\n";
    for ranks in [1, 2] {
        let scratch = scratch();
        let dir = scratch.path().join("run");
        for outcome in run_on_threads("gp-pde", job(text), ranks, &dir) {
            let error = outcome.expect_err("there is no solution");
            assert!(error.to_string().contains("Newton's method stopped"), "{error}");
            assert_eq!(error.exit(), 1);
        }
        assert!(!dir.join("result.h5").exists());
        let last: Vec<f64> = Reader::open(dir.join("last.h5")).expect("a file").read("/result/solution").expect("u");
        assert!(last.len() == 30 && last.iter().all(|u| u.is_finite()) && last[15] > 0.1);
    }
}

/// Derivatives on the grid and at points of the user's, on several ranks, against the solution's own.
#[test]
fn derivatives_and_own_points() {
    let scratch = scratch();
    let points = [0.11f64, 0.93, 0.52, 0.5, 1.0, 0.0];
    write_arrays(&scratch.path().join("at.h5"), &[("/points", &[3, 2], &points)]);
    let text = "schema = 1\nname = \"a\"\nworkload = \"gp-pde\"\n[problem]\nequation = \"u_xx + u_yy\"\nmanufactured = \
                \"sin(9*x)*cos(7*y)\"\n[[problem.axes]]\nname = \"x\"\nto = 1.0\npoints = 40\n[[problem.axes]]\nname = \
                \"y\"\nto = 1.0\npoints = 40\n[[problem.conditions]]\nat = \"boundary\"\nequation = \
                \"u\"\n[problem.output]\nderivatives = [\"u_xy\"]\npoints = [7, 5]\n[problem.output.at]\nfile = \
                \"at.h5\"\n";
    let exact = |x: f64, y: f64| -63.0 * (9.0 * x).cos() * (7.0 * y).sin();
    for ranks in [1, 3] {
        let dir = scratch.path().join(format!("run-{ranks}"));
        let text = JobText { path: scratch.path().join("job.toml"), text: text.to_owned() };
        run_on_threads("gp-pde", text, ranks, &dir).into_iter().for_each(|o| drop(o.expect("the job runs")));
        let read = |name: &str| doubles(&dir, name);
        for (i, got) in read("u_xy").iter().enumerate() {
            let (x, y) = ((i / 5) as f64 / 6.0, (i % 5) as f64 / 4.0);
            // Each derivative costs up to the square of the number of points at the ends (Markov's inequality).
            assert!((got - exact(x, y)).abs() < 1e-6, "{got} at {x} {y}");
        }
        for (i, at) in points.chunks(2).enumerate() {
            let u = read("solution_at_points")[i];
            assert!((u - (9.0 * at[0]).sin() * (7.0 * at[1]).cos()).abs() < 1e-10, "{u}");
            assert!((read("u_xy_at_points")[i] - exact(at[0], at[1])).abs() < 1e-6);
        }
    }
}

/// Lines between bins are reported where they are, from the solution alone.
#[test]
fn frequencies_off_every_bin_are_reported() {
    let scratch = scratch();
    let dir = scratch.path().join("run");
    run(shipped("off-bin-sparse-2d"), 1, &dir);
    for (axis, exact) in [("x", [87.31, 41.53]), ("y", [64.87, 93.19])] {
        let found = doubles(&dir, &format!("frequency_{axis}"));
        for exact in exact.map(|w: f64| w / std::f64::consts::TAU) {
            let off = found.iter().map(|f| (f - exact).abs()).fold(f64::MAX, f64::min);
            assert!(off < 1e-6, "{exact} along {axis}: {off:e}");
        }
    }
}

/// π² is an eigenvalue; 9.8697 differs from it by 10⁻⁵ of itself: solved, and said.
#[test]
fn closeness_to_resonance_is_told() {
    let scratch = scratch();
    let text = "schema = 1\nname = \"a\"\nworkload = \"gp-pde\"\n[problem]\nequation = \"u_xx + 9.8697*u = \
                sin(20*x)\"\n[[problem.axes]]\nname = \"x\"\nto = 1.0\npoints = 60\n[[problem.conditions]]\nat = \
                \"boundary\"\nequation = \"u = 0\"\n";
    let tell = |text: &str, name: &str| {
        let job = common::job(scratch.path(), &format!("{name}.toml"), text);
        let (code, out, err) = told(&common::run(&["run", &job, "--dir", &common::below(scratch.path(), name)]));
        assert_eq!(code, 0, "{err}");
        format!("{out}{err}")
    };
    assert!(tell(text, "near").contains("close to resonance: its eigenvalue nearest to zero is 9.7e-6"));
    assert!(!tell(&text.replace("9.8697", "9.0"), "far").contains("resonance"));
}

/// Pictures of a line, a plane, space-time and the slices of a cube, each with its error, spectrum and residuals.
#[test]
fn results_of_any_number_of_axes_have_pictures() {
    let scratch = scratch();
    let job = |equation: &str, exact: &str, axes: &[(&str, usize)], conditions: &[(&str, &str)]| {
        let axis = |(name, n): &(&str, usize)| format!("[[problem.axes]]\nname = \"{name}\"\nto = 1.0\npoints = {n}\n");
        let condition = |(at, e): &(&str, &str)| format!("[[problem.conditions]]\nat = \"{at}\"\nequation = \"{e}\"\n");
        let axes: String = axes.iter().map(axis).collect();
        let conditions: String = conditions.iter().map(condition).collect();
        format!(
            "schema = 1\nname = \"a\"\nworkload = \"gp-pde\"\n[problem]\nequation = \"{equation}\"\nmanufactured = \
             \"{exact}\"\n{axes}{conditions}"
        )
    };
    let all_round = [("boundary", "u")];
    let cases = [
        ("line", "x", job("u_xx", "sin(9*x)", &[("x", 30)], &all_round)),
        ("plane", "y", job("u_xx + u_yy", "sin(9*x)*cos(7*y)", &[("x", 24), ("y", 22)], &all_round)),
        (
            "time",
            "t",
            job("u_t - u_xx", "sin(5*x)*cos(3*t)", &[("t", 16), ("x", 20)], &[("t = 0", "u"), ("boundary", "u")]),
        ),
        (
            "cube",
            "z",
            job("u_xx + u_yy + u_zz", "sin(3*x)*cos(2*y)*sin(z)", &[("x", 12), ("y", 11), ("z", 10)], &all_round),
        ),
    ];
    for (name, axis, text) in cases {
        let path = scratch.path().join(name);
        run(&text, 1, &path);
        let path = path.to_str().expect("a path");
        let facts = common::json(&["analyse", path, "--json", "--pictures"]);
        let pictures: Vec<&str> =
            facts["pictures"].as_array().expect("a list").iter().filter_map(|p| p.as_str()).collect();
        let spectrum = format!("data_spectrum_{axis}.png");
        for wanted in ["solution.png", "solution_error.png", &spectrum, "history-held_out_residual.png"] {
            let picture = pictures.iter().find(|p| p.ends_with(wanted)).expect(wanted);
            let bytes = std::fs::read(picture).expect("a file");
            assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 200, "{name}: {wanted}");
        }
    }
}
