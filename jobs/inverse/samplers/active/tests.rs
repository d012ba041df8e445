//! Views that are chosen, against closed forms for normal priors; ranks and resumed runs.

use super::super::levels::{Levels, Spacing};
use super::super::tests::{keep, put};
use super::*;
use convoke_cluster::comm::run_threads;
use convoke_cluster::{Comm, block};
use convoke_kernels::Device;

/// Views of slices as dense matrices: `rows[view][value][point]`.
#[derive(Debug)]
struct Dense {
    place: Place,
    rows: Vec<Vec<Vec<f32>>>,
    /// What is measured of the volume, this rank's slices of it.
    truth: Vec<f32>,
    chosen: Vec<usize>,
}

impl Dense {
    fn new(comm: &Comm, slices: usize, points: [usize; 2], rows: Vec<Vec<Vec<f32>>>, truth: &[f32]) -> Self {
        let here = block(slices, comm.rank(), comm.size());
        let size = points[0] * points[1];
        let truth = truth[here.start * size..here.end * size].to_vec();
        let place = Place { comm: comm.clone(), slices: here, all: slices, points, leads: true };
        Self { place, rows, truth, chosen: Vec::new() }
    }

    fn values(&self, views: &[usize], volume: &[f32]) -> Vec<f32> {
        let of = |slice: &[f32], row: &Vec<f32>| slice.iter().zip(row).map(|(a, b)| a * b).sum::<f32>();
        let all = volume.chunks(self.place.size());
        all.flat_map(|slice| views.iter().flat_map(|view| &self.rows[*view]).map(move |row| of(slice, row))).collect()
    }
}

impl Operator for Dense {
    fn place(&self) -> &Place {
        &self.place
    }

    fn measured_len(&self) -> usize {
        self.place.slices.len() * self.chosen.iter().map(|view| self.rows[*view].len()).sum::<usize>()
    }

    fn forward(&mut self, v: &mut Buffer<f32>, q: &mut Buffer<f32>) -> Result<()> {
        let values = self.values(&self.chosen, v.host());
        q.host_mut().copy_from_slice(&values);
        Ok(())
    }

    fn back(&mut self, q: &mut Buffer<f32>, v: &mut Buffer<f32>) -> Result<()> {
        let rows: Vec<&Vec<f32>> = self.chosen.iter().flat_map(|view| &self.rows[*view]).collect();
        let v = v.host_mut();
        v.fill(0.0);
        for (slice, q) in v.chunks_mut(self.place.size()).zip(q.host().chunks(rows.len())) {
            for (row, q) in rows.iter().zip(q) {
                slice.iter_mut().zip(*row).for_each(|(v, w)| *v += w * q);
            }
        }
        Ok(())
    }

    fn dot(&self, a: &[f32], b: &[f32]) -> Result<f64> {
        let n = (self.measured_len() / self.place.slices.len().max(1)).max(1);
        let sum = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        self.place.sum(&a.chunks(n).zip(b.chunks(n)).map(sum).collect::<Vec<f64>>())
    }

    fn keep<'a>(&self, _: &str, _: &'a mut Buffer<f32>, _: &mut Fields<'a>) {}

    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn views(&mut self) -> Option<&mut dyn Views> {
        Some(self)
    }
}

impl Views for Dense {
    fn places(&self) -> (Vec<f64>, &'static str, &'static str) {
        ((0..self.rows.len()).map(|view| view as f64).collect(), "1", "numbers")
    }

    fn choose(&mut self, views: &[usize]) -> Result<Vec<f32>> {
        self.chosen = views.to_vec();
        Ok(self.values(views, &self.truth))
    }

    fn look(&mut self, view: usize, volumes: &mut [Buffer<f32>]) -> Result<Vec<Vec<f32>>> {
        Ok(volumes.iter_mut().map(|volume| self.values(&[view], volume.host())).collect())
    }
}

/// Slices that are m + Σ aₖ uₖ with orthonormal uₖ and independent normal aₖ of variance vₖ: D in closed form.
#[derive(Debug, Clone)]
struct Subspace {
    mean: f32,
    directions: Vec<(Vec<f32>, f64)>,
}

impl Denoiser for Subspace {
    fn denoise(&self, x: &[f32], points: [usize; 2], sigma: f64) -> Result<Vec<f32>> {
        let one = |slice: &[f32]| {
            let mut out = vec![self.mean; slice.len()];
            for (u, v) in &self.directions {
                let along: f64 = slice.iter().zip(u).map(|(x, u)| f64::from(x - self.mean) * f64::from(*u)).sum();
                let kept = (v / (v + sigma * sigma) * along) as f32;
                out.iter_mut().zip(u).for_each(|(out, u)| *out += kept * u);
            }
            out
        };
        Ok(x.chunks(points[0] * points[1]).flat_map(one).collect())
    }
}

impl Subspace {
    /// A volume of the prior.
    fn draw(&self, slices: usize, size: usize, seed: u64) -> Vec<f32> {
        let random = Philox::new(seed, 77);
        let mut out = vec![self.mean; slices * size];
        for (s, slice) in out.chunks_mut(size).enumerate() {
            for (k, (u, v)) in self.directions.iter().enumerate() {
                let a = (v.sqrt() * random.normal((s * self.directions.len() + k) as u64)) as f32;
                slice.iter_mut().zip(u).for_each(|(out, u)| *out += a * u);
            }
        }
        out
    }
}

fn dds(steps: u64) -> DdsParams {
    let levels = Levels { steps, sigma: [0.01, 20.0], spacing: Spacing::Karras };
    DdsParams { levels, eta: 0.85, iterations: 5, lambda: 0.0, rho: 0.0 }
}

/// Views, number of the first ones, choices, steps.
fn choice(views: usize, first: &[usize], choices: u64) -> Choice {
    Choice { first: first.to_vec(), offered: (0..views).collect(), choices, window: [0.5, 0.9], by: By::Entropy }
}

fn run(active: &mut Active, operator: &mut Dense) {
    for number in 0.. {
        if active.step(operator, number).expect("a step").done {
            break;
        }
    }
}

fn order(active: &Active) -> Vec<usize> {
    active.chosen.iter().map(|view| *view as usize).collect()
}

/// Slices that vary along x alone, from one wave: of sums along y, along x and along both diagonals, only the first ones see it. The posterior's
/// variance falls by v² |A u|²/(σ² + v |A u|²), which is largest for the view that is chosen, by both scores, on the way and in the end.
#[test]
fn the_view_that_sees_what_is_unknown_is_chosen() {
    let (n, slices, v, noise) = (8usize, 6, 0.3, 0.05f64);
    let line = |of: &dyn Fn(usize, usize) -> usize, values: usize| -> Vec<Vec<f32>> {
        let row = |k: usize| (0..n * n).map(|i| f32::from(u8::from(of(i / n, i % n) == k))).collect();
        (0..values).map(row).collect()
    };
    let rows = vec![
        line(&|y, _| y, n),
        line(&|y, x| x + y, 2 * n - 1),
        line(&|_, x| x, n),
        line(&|y, x| n - 1 + x - y, 2 * n - 1),
    ];
    let wave = |x: usize| (std::f64::consts::TAU * (x as f64 + 0.5) / n as f64).cos() * (2.0 / (n * n) as f64).sqrt();
    let u: Vec<f32> = (0..n * n).map(|i| wave(i % n) as f32).collect();
    let prior = Subspace { mean: 0.4, directions: vec![(u.clone(), v)] };
    let seen = |view: usize| -> f64 {
        let along = |row: &Vec<f32>| row.iter().zip(&u).map(|(a, b)| f64::from(a * b)).sum::<f64>().powi(2);
        rows[view].iter().map(along).sum()
    };
    let falls = |view: usize| v * v * seen(view) / (noise * noise + v * seen(view));
    let best = (0..4).max_by(|a, b| falls(*a).total_cmp(&falls(*b))).expect("views");
    assert_eq!(best, 2);
    let truth = prior.draw(slices, n * n, 1);
    for by in [By::Entropy, By::LogSumExp] {
        for choices in [0, 1] {
            let mut dense = Dense::new(&Comm::solo(), slices, [n, n], rows.clone(), &truth);
            let offered = vec![1, 2, 3];
            let choice = Choice { offered, by, ..choice(4, &[0], choices) };
            let denoiser = Arc::new(prior.clone());
            let mut active = Active::new((choice, dds(20), 6), denoiser, &dense, (1.0, noise), 3).expect("samples");
            run(&mut active, &mut dense);
            assert_eq!(order(&active), [best], "{by:?} {choices}");
            // What was measured is known then: one number of each slice.
            let spread = active.more().swap_remove(0).2.iter().fold(0f32, |most, d| most.max(*d));
            assert_eq!(spread < 0.05, choices == 1, "{by:?}: {spread}");
        }
    }
}

/// Eight views of independent points, the points of each with a variance of their own: greedy choices are those of the exact variance reduction
/// n v²/(v + σ²). Of 24 particles the mean of d² of a view over 200 independent values has a deviation of √(2/200) √(2/23) of it at most, 3 %, and
/// neighbouring variances are a factor of 1.4 apart: eleven deviations.
#[test]
fn greedy_choices_are_those_of_the_exact_variances() {
    let (views, slices, particles, noise) = (8usize, 100, 24, 0.1f64);
    let variance = |view: usize| 0.05 * 1.4f64.powi([3, 6, 1, 7, 0, 5, 2, 4][view]);
    let unit = |i: usize| -> Vec<f32> { (0..2 * views).map(|k| f32::from(u8::from(k == i))).collect() };
    let rows: Vec<Vec<Vec<f32>>> = (0..views).map(|view| vec![unit(2 * view), unit(2 * view + 1)]).collect();
    let directions = (0..2 * views).map(|i| (unit(i), variance(i / 2))).collect();
    let prior = Subspace { mean: 0.4, directions };
    let truth = prior.draw(slices, 2 * views, 5);
    let mut due = vec![4];
    let reduction = |view: &usize| variance(*view).powi(2) / (variance(*view) + noise * noise);
    while due.len() < 6 {
        let left = (0..views).filter(|view| !due.contains(view));
        due.push(left.max_by(|a, b| reduction(a).total_cmp(&reduction(b))).expect("a view"));
    }
    for by in [By::Entropy, By::LogSumExp] {
        let mut dense = Dense::new(&Comm::solo(), slices, [2, views], rows.clone(), &truth);
        let choice = Choice { by, ..choice(views, &due[..1], 5) };
        let denoiser = Arc::new(prior.clone());
        let mut active = Active::new((choice, dds(20), particles), denoiser, &dense, (1.0, noise), 3).expect("samples");
        run(&mut active, &mut dense);
        assert_eq!(order(&active), due[1..], "{by:?}");
    }
}

/// By hand: two particles d² apart have the entropy −log ½ (1 + exp(−d²/w)), and more of them less than log B; log-sum-exp grows without end.
#[test]
fn scores_are_those_of_their_formulas() {
    let w: f64 = (1.0 + 9.0) / 2.0;
    let entropy = |d2: f64| -(0.5 * (1.0 + (-d2 / w).exp())).ln();
    let found = scores(By::Entropy, &[vec![1.0], vec![9.0]], (2, 0.0));
    assert!((found[0] - entropy(1.0)).abs() < 1e-12 && (found[1] - entropy(9.0)).abs() < 1e-12, "{found:?}");
    let grown = |d2: f64| (0.5 * (1.0 + (2.0 * d2 / w).exp())).ln();
    let found = scores(By::LogSumExp, &[vec![1.0], vec![9.0]], (2, 0.0));
    assert!((found[0] - grown(1.0)).abs() < 1e-12 && (found[1] - grown(9.0)).abs() < 1e-12, "{found:?}");
    let far = scores(By::Entropy, &[vec![1e9; 3], vec![1e-9; 3]], (3, 0.0));
    assert!(far[0] < 3f64.ln() && far[0] > 0.8 && far[1] < 1e-9, "{far:?}");
    assert!(scores(By::LogSumExp, &[vec![1e9; 3], vec![1.0; 3]], (3, 0.0)).iter().all(|score| score.is_finite()));
    assert_eq!(scores(By::Entropy, &[vec![0.0; 3]], (3, 0.0)), [0.0]);
}

fn problem() -> (Subspace, Vec<Vec<Vec<f32>>>, Vec<f32>) {
    let random = Philox::new(9, 9);
    let row = |k: u64| (0..24).map(|i| random.normal(24 * k + i) as f32 * 0.3).collect::<Vec<f32>>();
    let rows = (0..6).map(|view| (0..4).map(|k| row(4 * view + k)).collect()).collect();
    let unit = |i: usize| -> Vec<f32> { (0..24).map(|k| f32::from(u8::from(k == i))).collect() };
    let prior = Subspace { mean: 0.4, directions: (0..24).map(|i| (unit(i), 0.02 + 0.01 * i as f64)).collect() };
    let truth = prior.draw(7, 24, 2);
    (prior, rows, truth)
}

fn fresh(dense: &Dense, prior: &Subspace, by: By) -> Active {
    let choice = Choice { by, ..choice(6, &[1], 3) };
    let params = DdsParams { lambda: 1e-4, rho: 1e-2, ..dds(12) };
    Active::new((choice, params, 3), Arc::new(prior.clone()), dense, (1.0, 0.02), 3).expect("samples")
}

/// Views and scores, mean and lower band.
type Drawn = ([Vec<f64>; 2], [Vec<f32>; 2]);

/// The same views, scores, means and bands, bit by bit, on one to four ranks.
#[test]
fn choices_do_not_depend_on_the_ranks() {
    let (prior, rows, truth) = problem();
    for by in [By::Entropy, By::LogSumExp, By::Random] {
        let drawn = |comm: &Comm| -> Result<Drawn> {
            let mut dense = Dense::new(comm, 7, [4, 6], rows.clone(), &truth);
            let mut active = fresh(&dense, &prior, by);
            run(&mut active, &mut dense);
            let volumes = [active.image().host().to_vec(), active.more().swap_remove(1).2];
            Ok(([active.chosen.clone(), active.scores.clone()], volumes))
        };
        let alone = drawn(&Comm::solo()).expect("a run");
        assert_eq!(alone.0[0].len(), 3);
        for ranks in 2..=4 {
            let parts: Vec<_> =
                run_threads(ranks, |comm| drawn(&comm)).into_iter().map(|p| p.expect("a run")).collect();
            assert!(parts.iter().all(|part| part.0 == alone.0), "{by:?} on {ranks}");
            for k in 0..2 {
                let all: Vec<f32> = parts.iter().flat_map(|part| part.1[k].clone()).collect();
                assert!(all == alone.1[k], "{by:?} on {ranks}");
            }
        }
    }
}

/// What a checkpoint keeps is enough, before, between and behind the choices.
#[test]
fn a_resumed_choice_ends_as_one_that_never_stopped() {
    let (prior, rows, truth) = problem();
    let dense = || Dense::new(&Comm::solo(), 7, [4, 6], rows.clone(), &truth);
    // Choices are made behind levels 6, 7 and 9 of twelve, and then twelve follow.
    for stop in [1, 7, 9, 15] {
        let (mut operator, mut other) = (dense(), dense());
        let mut whole = fresh(&operator, &prior, By::Entropy);
        let mut resumed = fresh(&other, &prior, By::Entropy);
        for number in 0.. {
            if number == stop {
                let mut fields = Fields::default();
                whole.fields(&operator, &mut fields);
                let kept = keep(&fields);
                drop(fields);
                let mut fields = Fields::default();
                resumed.fields(&other, &mut fields);
                put(&mut fields, &kept);
                drop(fields);
                resumed.restored(&mut other).expect("data");
            }
            let done = whole.step(&mut operator, number).expect("a step").done;
            if number >= stop {
                resumed.step(&mut other, number).expect("a step");
            }
            if done {
                assert_eq!(number, 21);
                break;
            }
        }
        assert!(whole.chosen == resumed.chosen && whole.scores == resumed.scores, "stopped at {stop}");
        assert!(whole.image().host() == resumed.image().host() && whole.more() == resumed.more(), "stopped at {stop}");
    }
}
