//! A campaign as a user runs it: a design, a program of the user's at its points, a fit, more points, another fit.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{convoke, has_mpirun, scratch, told};
use convoke_data::store::Reader;

/// The example that comes with the workload, in a folder of its own.
fn example(to: &Path) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs/dpp/borehole");
    let dir = to.join("borehole");
    fs::create_dir(&dir).expect("made");
    for entry in fs::read_dir(from).expect("the example").flatten() {
        fs::copy(entry.path(), dir.join(entry.file_name())).expect("copied");
    }
    dir
}

/// Runs the program in `dir`; exit code, standard output and error.
fn at(dir: &Path, line: &str) -> (i32, String, String) {
    told(&convoke().args(line.split(' ')).current_dir(dir).output().expect("the program starts"))
}

fn good(dir: &Path, line: &str) -> String {
    let (code, out, err) = at(dir, line);
    assert_eq!(code, 0, "{line}\n{out}\n{err}");
    out + &err
}

fn refused(dir: &Path, line: &str, words: &str) {
    let (code, _, err) = at(dir, line);
    assert_eq!(code, 2, "{line}\n{err}");
    assert!(err.contains(words), "{line}\n{err}");
}

fn read(run: &Path, name: &str) -> Vec<f64> {
    Reader::open(run.join("result.h5")).expect("a result").read(&format!("/result/{name}")).expect("an array")
}

fn figure(run: &Path, name: &str) -> f64 {
    Reader::open(run.join("result.h5")).expect("a result").f64_attribute("/result", name).expect("a figure")
}

fn words(run: &Path, name: &str) -> String {
    Reader::open(run.join("result.h5")).expect("a result").text_attribute("/result", name).expect("words")
}

/// What the example's program computes.
fn flow(x: &[f64]) -> f64 {
    let [rw, r, tu, hu, tl, hl, l, kw] = x.try_into().expect("eight inputs");
    let ln = (r / rw).ln();
    2.0 * std::f64::consts::PI * tu * (hu - hl) / (ln * (1.0 + 2.0 * l * tu / (ln * rw * rw * kw) + tu / tl))
}

/// Points of the inputs' law, from another generator than the program's.
fn fresh(n: usize) -> Vec<[f64; 8]> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut normal = move || {
        let (u, v): (f64, f64) = (random.f64(), random.f64());
        ((-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos(), random.f64())
    };
    let ranges =
        [(63070.0, 115_600.0), (990.0, 1110.0), (63.1, 116.0), (700.0, 820.0), (1120.0, 1680.0), (9855.0, 12045.0)];
    let mut point = || {
        let mut x = [0.10 + 0.016_181_2 * normal().0, (7.71 + 1.0056 * normal().0).exp(), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        for (x, (a, b)) in x[2..].iter_mut().zip(ranges) {
            *x = a + (b - a) * normal().1;
        }
        x
    };
    (0..n).map(|_| point()).collect()
}

/// The whole way. The error that each fit estimates of itself is that at fresh points, to a factor of two; enrichment lowers it;
/// mean and deviation are those of the fresh points, to five of their standard errors.
#[test]
fn from_a_design_to_a_better_fit() {
    let scratch = scratch();
    let dir = example(scratch.path());
    good(&dir, "run design.toml --dir runs/design -q");
    good(&dir, "sweep sweep.toml --dir runs/values -q");
    let values = fresh(2000);
    let rows: Vec<String> = values.iter().map(|x| x.map(|v| format!("{v:?}")).join(",")).collect();
    fs::write(dir.join("where.csv"), format!("rw,r,Tu,Hu,Tl,Hl,L,Kw\n{}\n", rows.join("\n"))).expect("written");
    let fit = fs::read_to_string(dir.join("fit.toml")).expect("read") + "evaluate = \"where.csv\"\n";
    fs::write(dir.join("fit.toml"), fit).expect("written");
    good(&dir, "run fit.toml --dir runs/fit -q");
    let exact: Vec<f64> = values.iter().map(|x| flow(x)).collect();
    let mean = exact.iter().sum::<f64>() / exact.len() as f64;
    let variance = exact.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / exact.len() as f64;
    let error = |run: &str| {
        let found = read(&dir.join(run), "predictions");
        let square: f64 = found.iter().zip(&exact).map(|(a, b)| (a - b).powi(2)).sum();
        (square / exact.len() as f64 / variance).sqrt()
    };
    let estimated = |run: &str| figure(&dir.join(run), "flow_relative_error");
    let (first, own) = (error("runs/fit"), estimated("runs/fit"));
    assert!(first < 2.0 * own && own < 2.0 * first, "{first} at fresh points, {own} estimated");
    let fit = dir.join("runs/fit");
    assert!((figure(&fit, "flow_mean") - mean).abs() < 5.0 * (variance / 2000.0).sqrt());
    // A ratio of variances of so many points: its relative standard error is below 5 %.
    assert!((figure(&fit, "flow_deviation") / variance.sqrt() - 1.0).abs() < 0.1);
    // The radius of the borehole matters most, that of influence not at all (Harper and Gupta 1983).
    let total = read(&fit, "sobol_total");
    assert!(total[0] > 0.5 && total[1] < 1e-3, "{total:?}");
    // Gradients against differences of the exact function where the fit is good: in the head, in which it is almost linear.
    let (gradients, x) = (read(&fit, "gradients"), &values[0]);
    let mut y = *x;
    y[3] += 1e-3;
    let slope = (flow(&y) - flow(x)) / 1e-3;
    assert!((gradients[3] / slope - 1.0).abs() < 0.2, "{} for {slope}", gradients[3]);

    // More points for a larger space: the old ones stay, nothing that is done is done again.
    good(&dir, "run more.toml --dir runs/more -q");
    let more = good(&dir, "sweep runs/values --add runs/more");
    assert!(more.contains("60 of 128 runs to do"), "{more}");
    let refit = fs::read_to_string(dir.join("refit.toml")).expect("read") + "evaluate = \"where.csv\"\n";
    fs::write(dir.join("refit.toml"), refit).expect("written");
    good(&dir, "run refit.toml --dir runs/refit -q");
    let (second, own) = (error("runs/refit"), estimated("runs/refit"));
    assert!(second < 0.6 * first, "{second} after {first}");
    assert!(second < 2.0 * own && own < 2.0 * second, "{second} at fresh points, {own} estimated");

    // The design as a table, for those who have other ways to run a model: what the sweep ran.
    good(&dir, "analyse export runs/design inputs --format csv");
    let table = fs::read_dir(dir.join("runs/design")).expect("there").flatten().map(|e| e.path());
    let table = table.into_iter().find(|p| p.extension().is_some_and(|e| e == "csv")).expect("a table");
    let table = fs::read_to_string(table).expect("read");
    let asked = fs::read_to_string(dir.join("runs/values/points.csv")).expect("read");
    let rows = |text: &str, first: usize| -> Vec<Vec<f64>> {
        text.lines()
            .skip(1)
            .take(68)
            .map(|l| l.split(',').skip(first).map(|c| c.parse().expect("a number")).collect())
            .collect()
    };
    assert!(table.starts_with("point,rw,r,Tu,Hu,Tl,Hl,L,Kw\r\n0,"), "{table}");
    assert_eq!(rows(&table, 1), rows(&asked, 0));

    // The same from a table that somebody typed, with the rows in another order; bit for bit.
    let points = read(&dir.join("runs/refit"), "inputs");
    let told = read(&dir.join("runs/refit"), "values");
    let rows: Vec<String> = points
        .chunks(8)
        .zip(&told)
        .map(|(x, v)| format!("{v:?},{}", x.iter().map(|v| format!("{v:?}")).collect::<Vec<_>>().join(",")))
        .rev()
        .collect();
    fs::write(dir.join("told.csv"), format!("flow,rw,r,Tu,Hu,Tl,Hl,L,Kw\n{}\n", rows.join("\n"))).expect("written");
    let typed = fs::read_to_string(dir.join("refit.toml")).expect("read").replace("\"runs/values\"", "\"told.csv\"");
    fs::write(dir.join("typed.toml"), &typed).expect("written");
    good(&dir, "run typed.toml --dir runs/typed -q");
    assert_eq!(read(&dir.join("runs/typed"), "coefficients"), read(&dir.join("runs/refit"), "coefficients"));
    // Told twice, told of no point, and no number: refused, with the line.
    for (more, words) in [
        (rows[0].clone(), "line 130 and line 2 are the same point"),
        (rows[0].replacen("0.", "1.", 2), "line 130 is no point of the design"),
        (format!("x{}", rows[0]), "line 130, column flow: \"x"),
    ] {
        let text = format!("flow,rw,r,Tu,Hu,Tl,Hl,L,Kw\n{}\n{more}\n", rows.join("\n"));
        fs::write(dir.join("told.csv"), text).expect("written");
        refused(&dir, "run typed.toml --dir runs/wrong -q", words);
        assert!(!dir.join("runs/wrong").exists());
    }
}

/// Runs that fail where the radius is small: refused, then fitted without them, with what that does to the law; points are added
/// beside those that have values only.
#[test]
fn failed_runs_are_told_with_what_they_do_to_the_law() {
    let scratch = scratch();
    let dir = example(scratch.path());
    let model = fs::read_to_string(dir.join("borehole.sh")).expect("read").replace("rw <= 0", "rw <= 0.08");
    fs::write(dir.join("borehole.sh"), model).expect("written");
    good(&dir, "run design.toml --dir runs/design -q");
    let inputs = read(&dir.join("runs/design"), "inputs");
    let failing = inputs.chunks(8).filter(|x| x[0] <= 0.08).count();
    assert!(failing > 3, "{failing}");
    let (code, out, err) = at(&dir, "sweep sweep.toml --dir runs/values");
    assert_eq!(code, 1, "{out}{err}");
    let said = "the program ended with code 2 and said last: the radius is negative";
    assert!((out + &err).contains(said));
    refused(
        &dir,
        "run fit.toml --dir runs/fit -q",
        &format!("{failing} of 68 points have no value ({failing}: failed: program: {said}"),
    );
    assert!(!dir.join("runs/fit").exists());
    let fit = fs::read_to_string(dir.join("fit.toml")).expect("read") + "missing = \"drop\"\n";
    fs::write(dir.join("drop.toml"), &fit).expect("written");
    good(&dir, "run drop.toml --dir runs/fit -q");
    let run = dir.join("runs/fit");
    let missing = read(&run, "missing");
    assert_eq!(missing.len(), failing);
    assert!(missing.iter().all(|i| inputs[8 * *i as usize] <= 0.08));
    let given_up = words(&run, "given_up");
    assert!(given_up.contains("they are those with low rw (p = "), "{given_up}");
    assert_eq!(figure(&run, "points_with_values"), (68 - failing) as f64);
    // Too few are left for a larger space.
    let larger = fit
        + "[problem.space]\nfamilies = [\"hermite\", \"hermite\", \"legendre\", \"legendre\", \"legendre\", \
                        \"legendre\", \"legendre\", \"legendre\"]\ndimension = 8\nindex_set = \"total-degree\"\ndegree = 3\n";
    fs::write(dir.join("larger.toml"), larger).expect("written");
    let words = format!("{} points have values, and 165 functions need as many", 68 - failing);
    refused(&dir, "run larger.toml --dir runs/larger -q", &words);
    let note = good(&dir, "check more.toml");
    assert!(note.contains(&format!("{} points stay; {failing} of 68 points have no value", 68 - failing)), "{note}");
    good(&dir, "run more.toml --dir runs/more -q");
    assert!(figure_of_series(&dir.join("runs/more"), "lambda_min") > read_min(&run));
}

fn figure_of_series(run: &Path, name: &str) -> f64 {
    read(run, name)[0]
}

fn read_min(run: &Path) -> f64 {
    figure(run, "lambda_min")
}

/// The program's own words, however it fails; a stop ends it, and going on begins it again.
#[test]
fn a_program_is_run_stopped_and_begun_again() {
    let scratch = scratch();
    let dir = scratch.path();
    let job = |name: &str, script: &str| {
        let text = format!(
            "schema = 1\nname = \"p\"\nworkload = \"program\"\n[problem]\ncommand = [\"sh\", \"-c\", '{script}']\noutputs = [\"y\"]\n"
        );
        fs::write(dir.join(name), text).expect("written");
    };
    job("fails.toml", "echo no licence >&2; exit 9");
    let (code, _, err) = at(dir, "run fails.toml --dir fails -q");
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("the program ended with code 9 and said last: no licence"), "{err}");
    assert_eq!(fs::read_to_string(dir.join("fails/work/stderr")).expect("kept"), "no licence\n");
    // It waits for a file, the first time in vain.
    job("waits.toml", "echo $$ >>{job}/pids; while [ ! -e {job}/go ]; do sleep 0.05; done; echo 42");
    let (code, _, err) = at(dir, "run waits.toml --dir waits --stop-after 2 -q");
    assert_eq!(code, 75, "{err}");
    let pids = fs::read_to_string(dir.join("pids")).expect("begun");
    let gone = |pid: &str| !Path::new("/proc").join(pid).exists();
    assert!(gone(pids.trim()), "the program outlives its run");
    fs::write(dir.join("go"), "").expect("written");
    good(dir, "resume waits -q");
    assert_eq!(figure(&dir.join("waits"), "y"), 42.0);
    assert_eq!(fs::read_to_string(dir.join("pids")).expect("begun").lines().count(), 2);
    job("missing.toml", "true");
    let text = fs::read_to_string(dir.join("missing.toml")).expect("read").replace("\"sh\"", "\"./no-model\"");
    fs::write(dir.join("missing.toml"), text).expect("written");
    refused(
        dir,
        "run missing.toml --dir missing -q",
        "problem.command = \"./no-model\": expected a program; there is no",
    );
    assert!(!dir.join("missing").exists());
}

/// A fit on several ranks, of more rows than a block holds, is that of one rank, bit by bit.
#[test]
fn a_fit_does_not_depend_on_the_ranks() {
    if !has_mpirun() {
        return;
    }
    let scratch = scratch();
    let dir = scratch.path();
    let design = "schema = 1\nname = \"d\"\nworkload = \"dpp\"\n[problem]\ntask = \"design\"\n[problem.space]\n\
                  families = [\"legendre\"]\ndimension = 2\nindex_set = \"total-degree\"\ndegree = 5\n\
                  [problem.design]\nlaw = \"iid\"\nn = 7000\n";
    fs::write(dir.join("design.toml"), design).expect("written");
    good(dir, "run design.toml --dir design -q");
    let points = read(&dir.join("design"), "inputs");
    let row = |x: &[f64]| format!("{:?},{:?},{:?},{:?}", x[0], x[1], (x[0] + 2.0 * x[1]).exp(), x[0] * x[1]);
    let rows: Vec<String> = points.chunks(2).map(row).collect();
    fs::write(dir.join("values.csv"), format!("x1,x2,a,b\n{}\n", rows.join("\n"))).expect("written");
    let fit = "schema = 1\nname = \"f\"\nworkload = \"dpp\"\n[problem]\ntask = \"fit\"\n[problem.fit]\n\
               designs = [\"design\"]\nvalues = \"values.csv\"\noutputs = [\"a\", \"b\"]\n";
    fs::write(dir.join("fit.toml"), fit).expect("written");
    good(dir, "run fit.toml --dir one -q");
    // x y is a product of the basis: exact to rounding, with what it has of the variance in the two variables together.
    assert!(read(&dir.join("one"), "leave_one_out")[1] < 1e-13);
    let (first, total) = (read(&dir.join("one"), "sobol_first"), read(&dir.join("one"), "sobol_total"));
    assert!(
        first[2..].iter().all(|s| *s < 1e-20) && total[2..].iter().all(|s| (s - 1.0).abs() < 1e-12),
        "{first:?} {total:?}"
    );
    // E exp(x + 2y) = sinh(1) sinh(2)/2; the fit of degree 5 has its mean to the size of the error.
    let mean = 1f64.sinh() * 2f64.sinh() / 2.0;
    assert!((read(&dir.join("one"), "mean")[0] - mean).abs() < 3e-3 * mean);
    for ranks in [2, 3] {
        let run = format!("ranks-{ranks}");
        good(dir, &format!("run fit.toml --dir {run} -n {ranks} -q"));
        for name in ["coefficients", "leverages", "residuals", "sobol_total"] {
            assert_eq!(read(&dir.join("one"), name), read(&dir.join(&run), name), "{name} on {ranks} ranks");
        }
        let enriched = |run: &str| read(&dir.join(run), "enriched");
        assert_eq!(enriched("one"), enriched(&run));
    }
}
