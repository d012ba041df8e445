//! Designs for pools of atoms whose features the user gives.

mod common;

use std::fs;
use std::path::Path;

use common::{convoke, has_mpirun, scratch, told};
use convoke_data::store::{Reader, Writer};

/// A pool of polynomials of degree < `m` at points of [−1, 1], in a basis of powers: far from orthonormal.
fn pool(path: &Path, atoms: usize, m: usize) -> Vec<f64> {
    let mut random = fastrand::Rng::with_seed(3);
    let x: Vec<f64> = (0..atoms).map(|_| 2.0 * random.f64() - 1.0).collect();
    let features: Vec<f64> = x.iter().flat_map(|x| (0..m).map(move |k| x.powi(k as i32))).collect();
    let mut writer = Writer::create(path).expect("made");
    writer.whole("/features", &[atoms, m], &features).expect("written");
    writer.whole("/x", &[atoms, 1], &x).expect("written");
    writer.commit_new().expect("there");
    x
}

fn job(dir: &Path, law: &str) {
    let text = format!(
        "schema = 1\nname = \"pool\"\nworkload = \"dpp\"\nseed = 5\n[problem]\ntask = \"design\"\n[problem.pool]\n\
         file = \"pool.h5\"\npoints = \"/x\"\n[problem.design]\n{law}\n"
    );
    fs::write(dir.join("job.toml"), text).expect("written");
}

fn at(dir: &Path, line: &str) -> (i32, String, String) {
    told(&convoke().args(line.split(' ')).current_dir(dir).output().expect("the program starts"))
}

fn read(run: &Path, name: &str) -> Vec<f64> {
    Reader::open(run.join("result.h5")).expect("a result").read(&format!("/result/{name}")).expect("an array")
}

/// Every law draws the same atoms on any number of ranks; weights are 1/(N ‖V_j‖²) times m, so that their sum over the points
/// estimates 1 for iid points; the atoms' coordinates are copied.
#[test]
fn designs_of_a_pool_do_not_depend_on_the_ranks() {
    let scratch = scratch();
    let dir = scratch.path();
    let x = pool(&dir.join("pool.h5"), 20_000, 12);
    for (law, n) in [
        ("law = \"dpp\"\ncopies = 3", 12),
        ("law = \"volume\"\nn = 30\nmeasure = \"mixture\"", 30),
        ("law = \"repeated\"\nn = 25", 25),
        ("law = \"greedy\"\nn = 15", 15),
        ("law = \"iid\"\nn = 4000", 4000),
    ] {
        job(dir, law);
        let name: String = law.chars().filter(char::is_ascii_lowercase).collect();
        let one = dir.join(&name);
        let (code, _, err) = at(dir, &format!("run job.toml --dir {name} -q"));
        assert_eq!(code, 0, "{law}\n{err}");
        let atoms = read(&one, "atoms");
        assert_eq!(atoms.len() % n, 0);
        let inputs = read(&one, "inputs");
        assert!(atoms.iter().zip(&inputs).all(|(j, y)| x[*j as usize] == *y));
        if law.contains("\"dpp\"") {
            for copy in atoms.chunks(n) {
                let mut copy = copy.to_vec();
                copy.sort_by(f64::total_cmp);
                assert!(copy.windows(2).all(|w| w[0] < w[1]), "an atom is chosen once");
            }
            // m points in general position determine the fit.
            assert!(read(&one, "lambda_min").iter().all(|l| *l > 1e-8));
        }
        if law.contains("iid") {
            // E w = 1 under ν, and w ≤ m, so that the mean of 4000 has a deviation of at most √(m/4000).
            let mean = read(&one, "weights").iter().sum::<f64>() / n as f64;
            assert!((mean - 1.0).abs() < 4.5 * (12f64 / 4000.0).sqrt(), "{mean}");
        }
        if has_mpirun() {
            for ranks in [2, 3] {
                let other = format!("{name}-{ranks}");
                let (code, _, err) = at(dir, &format!("run job.toml --dir {other} -n {ranks} -q"));
                assert_eq!(code, 0, "{law} on {ranks}\n{err}");
                assert_eq!(read(&dir.join(&other), "atoms"), atoms, "{law} on {ranks} ranks");
                assert_eq!(read(&dir.join(&other), "weights"), read(&one, "weights"), "{law} on {ranks} ranks");
            }
        }
    }
}

#[test]
fn pools_that_cannot_be_are_refused() {
    let scratch = scratch();
    let dir = scratch.path();
    let refused = |law: &str, code: i32, words: &str| {
        job(dir, law);
        let (found, _, err) = at(dir, "run job.toml --dir run -q");
        assert_eq!(found, code, "{err}");
        assert!(err.contains(words), "{err}");
        assert!(!dir.join("run").exists());
    };
    refused("law = \"dpp\"", 2, "pool.h5: no such file");
    let write = |features: &[f64], shape: &[usize]| {
        let path = dir.join("pool.h5");
        let _ = fs::remove_file(&path);
        let mut writer = Writer::create(&path).expect("made");
        writer.whole("/features", shape, features).expect("written");
        writer.whole("/x", &[shape[0], 1], &vec![0.0; shape[0]]).expect("written");
        writer.commit_new().expect("there");
    };
    write(&[1.0, 2.0, 2.0, 4.0, 3.0, 6.0], &[3, 2]);
    refused("law = \"dpp\"", 1, "the features of the pool have rank 1, and 2 functions need as many");
    refused("law = \"volume\"\nn = 1", 2, "problem.design.n = 1: expected at least 2");
    refused("law = \"greedy\"\nafter = [\"x\"]", 2, "problem.design.after: a design for a pool has no such key");
    write(&[1.0, 2.0, f64::NAN, 4.0, 3.0, 5.0], &[3, 2]);
    refused("law = \"dpp\"", 2, "/features holds 1 values that are NaN or infinite, the first at index [1, 0]");
    write(&[1.0, 2.0], &[1, 2]);
    refused("law = \"dpp\"", 2, "problem.pool.features = /features of ");
    write(&[1.0, 2.0], &[2]);
    refused("law = \"dpp\"", 2, "expected an array [atom, function]");
}
