use convoke_cluster::Comm;
use convoke_cluster::comm::run_threads;
use convoke_kernels::gpu::emulation::compile_emulation;
use faer::Mat;

use super::*;
use crate::dpp::batch::Batch;
use crate::dpp::pool::{Atoms, Pool};
use crate::dpp::source::{Continuous, Pick, Universe};
use crate::dpp::space::Space;
use crate::dpp::space::family::{Family, gauss};
use crate::dpp::space::indices::Rule;
use crate::dpp::stream::Stream;

/// |z| of a normal that is exceeded with probability 7e-6.
const Z: f64 = 4.5;

fn target(target: usize) -> Blocks {
    Blocks { target, par: Par::Seq }
}

fn usual(space: &Space) -> Blocks {
    Blocks::of(space.len(), Par::Seq)
}

/// Any features of `atoms` atoms, `functions` of them.
fn pool(atoms: usize, functions: usize, seed: u64) -> Pool {
    let stream = Stream::new(seed, 0, 0);
    let features = Mat::from_fn(atoms, functions, |i, j| stream.normal((i * functions + j) as u64) + 0.3);
    Pool::of(features.as_ref()).unwrap()
}

/// All subsets of `size` of the numbers below `n`.
fn subsets(n: usize, size: usize) -> Vec<Vec<usize>> {
    let all = (0u32..1 << n).filter(|bits| bits.count_ones() as usize == size);
    all.map(|bits| (0..n).filter(|i| bits >> i & 1 == 1).collect()).collect()
}

/// χ² of `draws` samples of 4 of 7 atoms against det², 34 degrees of freedom.
fn chi_square(pool: &Pool, seed: u64, blocks: Blocks, retest: bool) -> f64 {
    let draws = 15_000;
    let sets = subsets(7, 4);
    let mut counts = vec![0.0; sets.len()];
    let (comm, features) = (Comm::solo(), pool.features().map(|(_, v)| v).collect::<Vec<_>>());
    let universe = Atoms::new(pool, &comm);
    for replica in 0..draws {
        let stream = Stream::new(seed, replica, 0);
        let candidates = universe.candidates(stream);
        let mut sampler = Sampler::new(&candidates, blocks);
        sampler.retest = retest;
        while !sampler.is_done() {
            sampler.advance(&candidates).unwrap();
        }
        let sample = sampler.sample();
        let picks: Vec<Pick> = sample.accepted.iter().map(|t| Pick { stream, t: *t, plain: false }).collect();
        let atoms = universe.rows(&picks, Mat::zeros(4, 4).as_mut()).unwrap();
        let mut atoms: Vec<usize> = atoms.iter().map(|atom| *atom as usize).collect();
        atoms.sort_unstable();
        counts[sets.iter().position(|set| *set == atoms).unwrap()] += 1.0;
    }
    let probability = |set: &Vec<usize>| Mat::from_fn(4, 4, |i, j| features[set[j]][i]).determinant().powi(2);
    let total: f64 = sets.iter().map(probability).sum();
    assert!((total - 1.0).abs() < 1e-12, "Cauchy-Binet: {total}");
    let expected = sets.iter().map(|set| draws as f64 * probability(set));
    expected.zip(&counts).map(|(e, c)| (c - e).powi(2) / e).sum()
}

/// χ² with 34 degrees of freedom exceeds 73.7 with probability 1e-4 (Wilson and Hilferty); nine tests here. The sampler that
/// forgets the second test exceeds it by far.
#[test]
fn subsets_have_the_probabilities_of_the_determinants() {
    for seed in 0..3 {
        let pool = pool(7, 4, 70 + seed);
        for n in [1, 16, 64] {
            let found = chi_square(&pool, seed, target(n), true);
            assert!(found < 73.7, "seed {seed}, target {n}: {found}");
        }
    }
    let broken = chi_square(&pool(7, 4, 70), 0, target(64), false);
    assert!(broken > 500.0, "a sampler without the second test has {broken}");
}

/// The emulation of a GPU, where there is a compiler for it.
fn devices() -> Vec<Device> {
    let dir = tempfile::tempdir().unwrap();
    let made = compile_emulation(dir.path()).and_then(|library| Device::emulated(&library));
    // Those of the kernels say why there is none.
    made.into_iter().collect()
}

fn continuous(space: &Space, replica: u64) -> Continuous<'_> {
    Continuous::new(space, Stream::new(11, replica, 0))
}

fn total_degree(d: usize, p: usize) -> Space {
    Space::new(&vec![Family::Legendre; d], &Rule::TotalDegree(p)).unwrap()
}

#[test]
fn the_accepted_candidates_do_not_depend_on_blocks_or_threads() {
    let hermite = Space::new(&[Family::Hermite; 4], &Rule::HyperbolicCross(12)).unwrap();
    for space in [total_degree(2, 18), total_degree(1, 149), hermite] {
        let source = continuous(&space, 3);
        let one = sample(&source, target(1)).unwrap();
        assert!(one.accepted.windows(2).all(|w| w[0] < w[1]) && one.accepted.len() == space.len());
        for n in [16, 64, 96] {
            let other = sample(&source, target(n)).unwrap();
            assert_eq!((&other.accepted, other.proposals), (&one.accepted, one.proposals), "target {n}");
        }
        let threaded = Blocks::of(space.len(), Par::rayon(2));
        assert_eq!(sample(&source, threaded).unwrap().accepted, one.accepted);
    }
    let pool = pool(400, 60, 5);
    let comm = Comm::solo();
    let universe = Atoms::new(&pool, &comm);
    let accepted = |n: usize| universe.sample(Stream::new(2, 0, 0), target(n)).unwrap().accepted;
    assert_eq!(accepted(1), accepted(64));
}

/// Ranks that draw one sample together, more of them than a small space has functions for, accept what one rank accepts.
#[test]
fn the_accepted_candidates_do_not_depend_on_who_draws_together() {
    for space in [total_degree(2, 18), total_degree(1, 4)] {
        let one = sample(&continuous(&space, 3), usual(&space)).unwrap();
        for ranks in [2, 3, 7] {
            let all = run_threads(ranks, |comm| {
                let source = Continuous { comm, ..continuous(&space, 3) };
                Ok(sample(&source, usual(&space)).unwrap())
            });
            for other in all.into_iter().map(Result::unwrap) {
                assert_eq!((&other.accepted, other.proposals), (&one.accepted, one.proposals), "{ranks} ranks");
                assert!((other.flops - one.flops).abs() < 1e-9 * one.flops);
            }
        }
    }
}

/// The launches of a GPU, emulated on the CPU where there is a compiler for it, accept what the CPU accepts; taken up in both halves too.
#[test]
fn the_accepted_candidates_do_not_depend_on_the_device() {
    for device in devices() {
        for space in [total_degree(2, 10), total_degree(1, 4)] {
            let source = continuous(&space, 3);
            let one = sample(&source, target(8)).unwrap();
            let mut other = Sampler::on_device(&source, target(8), &device).unwrap();
            while !other.is_done() {
                other.advance(&source).unwrap();
                let mut third = Sampler::on_device(&source, target(8), &device).unwrap();
                if [2, 5].contains(&(other.accepted().len() * 6 / space.len())) {
                    third.resume(&source, other.next(), other.accepted()).unwrap();
                    other = third;
                }
            }
            assert_eq!(other.accepted(), one.accepted, "{device:?}");
        }
    }
}

/// Many small samples at once on a device are those of the CPU, one by one; so are the designs made of them.
#[test]
fn samples_by_the_batch_are_those_drawn_alone() {
    let space = Space::new(&[Family::Legendre, Family::Hermite], &Rule::TotalDegree(5)).unwrap();
    let streams: Vec<Stream> = (0..9).map(|part| Stream::new(7, part / 3, part % 3)).collect();
    for device in devices() {
        let batch = Batch::draw(&space, &device, &streams).unwrap();
        for stream in &streams {
            let alone = space.sample(*stream, usual(&space)).unwrap();
            assert_eq!(batch.known(stream), Some(alone.accepted.as_slice()), "{device:?}");
            assert_eq!(batch.sample(*stream, usual(&space)).unwrap().accepted, alone.accepted);
        }
    }
}

/// A sample that is left after any number of blocks and taken up by other ranks ends as if it had not been left.
#[test]
fn samples_that_were_left_are_taken_up() {
    let space = total_degree(2, 14);
    let one = sample(&continuous(&space, 5), target(8)).unwrap();
    for (blocks, ranks) in [(1, 1), (6, 2), (13, 3), (17, 1)] {
        let mut first = Sampler::new(&continuous(&space, 5), target(8));
        (0..blocks).for_each(|_| first.advance(&continuous(&space, 5)).unwrap());
        assert!(!first.is_done() && first.accepted().len() > 4, "{} points", first.accepted().len());
        let (next, accepted) = (first.next(), first.accepted().to_vec());
        let all = run_threads(ranks, |comm| {
            let source = Continuous { comm, ..continuous(&space, 5) };
            let mut second = Sampler::new(&source, target(16));
            second.resume(&source, next, &accepted).unwrap();
            while !second.is_done() {
                second.advance(&source).unwrap();
            }
            Ok(second.sample())
        });
        for second in all.into_iter().map(Result::unwrap) {
            assert_eq!((&second.accepted, second.proposals), (&one.accepted, one.proposals), "{blocks} {ranks}");
        }
    }
}

/// The step of point i takes a geometric number of candidates of mean m/(m − i): m H_m in all, variance Σ m i/(m − i)².
#[test]
fn as_many_candidates_are_proposed_as_the_law_says() {
    let space = total_degree(2, 5);
    let (m, draws) = (space.len(), 1000);
    let all: u64 = (0..draws).map(|r| sample(&continuous(&space, r), usual(&space)).unwrap().proposals).sum();
    let over = |f: &dyn Fn(f64) -> f64| -> f64 { (0..m).map(|i| f(i as f64)).sum() };
    let m = m as f64;
    let (mean, variance) = (over(&|i| m / (m - i)), over(&|i| m * i / (m - i).powi(2)));
    let z = (all as f64 / draws as f64 - mean) / (variance / draws as f64).sqrt();
    assert!(z.abs() < Z, "{} of {mean}, z = {z}", all as f64 / draws as f64);
}

/// Counted, on the average of some samples: 1.39 m³ of tests, 2.5 m³ of orthogonalisation, and what blocks add.
#[test]
fn flops_stay_below_four_and_a_half_cubes() {
    let cross = Space::new(&[Family::Legendre; 20], &Rule::HyperbolicCross(4)).unwrap();
    for (space, draws) in [(total_degree(1, 49), 40), (total_degree(10, 3), 4), (cross, 4), (total_degree(1, 499), 1)] {
        let flops = |r| sample(&continuous(&space, r), usual(&space)).unwrap().flops;
        let cubes = (0..draws).map(flops).sum::<f64>() / draws as f64 / (space.len() as f64).powi(3);
        assert!((3.0..4.5).contains(&cubes), "m = {}: {cubes} m^3", space.len());
    }
}

/// Nodes and weights of one variable's measure, exact to rounding for smooth functions.
fn rule(family: Family) -> (Vec<f64>, Vec<f64>) {
    match family {
        Family::Fourier => ((0..64).map(|i| (f64::from(i) + 0.5) / 64.0).collect(), vec![1.0 / 64.0; 64]),
        _ => gauss(family, 40).unwrap(),
    }
}

/// ∫ f φ_j φ_l dμ, m × m, by the product of rules.
fn multiply(space: &Space, families: &[Family], f: impl Fn(&[f64]) -> f64) -> Mat<f64> {
    let (mut points, mut weights) = (vec![Vec::new()], vec![1.0]);
    for family in families {
        let (x, w) = rule(*family);
        let longer = |p: &Vec<f64>| x.iter().map(|x| [p.as_slice(), &[*x]].concat()).collect::<Vec<_>>();
        points = points.iter().flat_map(longer).collect();
        weights = weights.iter().flat_map(|a| w.iter().map(move |b| a * b)).collect();
    }
    let values: Vec<f64> = points.iter().map(|x| f(x)).collect();
    let mut features = Mat::zeros(points.len(), space.len());
    space.features(&points.concat(), features.as_mut());
    let scaled = Mat::from_fn(points.len(), space.len(), |i, j| weights[i] * values[i] * features[(i, j)]);
    features.transpose() * scaled
}

/// E ∏ g(x_i) = det ∫ g φφᵀ (Andréief); mean and variance of Σ h(x_i): ∫ h k, ∫ h² k − ‖∫ h φφᵀ‖². Each |z| < 4.5.
#[test]
fn products_and_sums_over_the_points_have_their_exact_moments() {
    let spaces: [(&[Family], Rule); 5] = [
        (&[Family::Legendre], Rule::TotalDegree(7)),
        (&[Family::Hermite; 2], Rule::TotalDegree(3)),
        (&[Family::Legendre; 3], Rule::HyperbolicCross(4)),
        (&[Family::Fourier], Rule::TotalDegree(8)),
        (&[Family::Jacobi { a: 0.5, b: -0.5 }, Family::Laguerre { alpha: 0.0 }], Rule::TotalDegree(2)),
    ];
    for (families, kind) in spaces {
        let space = Space::new(families, &kind).unwrap();
        let (d, draws) = (space.dimension(), 1500);
        let sum = |x: &[f64]| x.iter().enumerate().map(|(j, x)| x / (1.0 + j as f64)).sum::<f64>();
        let g = |x: &[f64]| 1.0 + 0.25 * (0.5 * sum(x) + 0.4).sin();
        let h = |x: &[f64]| (0.6 * sum(x) + 0.3).cos();
        let (mut products, mut sums) = (Vec::new(), Vec::new());
        for replica in 0..draws {
            let source = continuous(&space, replica);
            let mut x = vec![0.0; d];
            let (mut product, mut total) = (1.0, 0.0);
            for t in sample(&source, usual(&space)).unwrap().accepted {
                space.draw(&source.stream, t, &mut x);
                product *= g(&x);
                total += h(&x);
            }
            products.push(product);
            sums.push(total);
        }
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let spread = |v: &[f64]| (v.iter().map(|x| (x - mean(v)).powi(2)).sum::<f64>()).sqrt() / v.len() as f64;
        let check = |found: &[f64], exact: f64, what: &str| {
            let z = (mean(found) - exact) / spread(found);
            assert!(z.abs() < Z, "{kind:?} {families:?}: {what} {} of {exact}, z = {z}", mean(found));
        };
        check(&products, multiply(&space, families, g).determinant(), "E prod g");
        let first = multiply(&space, families, h);
        let trace = |a: &Mat<f64>| (0..a.nrows()).map(|i| a[(i, i)]).sum::<f64>();
        let exact = trace(&first);
        check(&sums, exact, "E sum h");
        let squares: Vec<f64> = sums.iter().map(|s| (s - exact).powi(2)).collect();
        let variance = trace(&multiply(&space, families, |x| h(x).powi(2))) - first.squared_norm_l2();
        check(&squares, variance, "Var sum h");
    }
}

#[test]
fn features_that_are_no_basis_are_refused() {
    let repeated = Mat::from_fn(20, 3, |i, j| if j == 2 { 2.0 * i as f64 } else { (i as f64).powi(j as i32) });
    let error = Pool::of(repeated.as_ref()).unwrap_err().to_string();
    assert!(error.contains("rank 2, and 3 functions need as many"), "{error}");
}
