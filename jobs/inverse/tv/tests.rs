use super::*;
use convoke_cluster::comm::run_threads;
use convoke_cluster::{Comm, block};
use convoke_kernels::{Device, Philox};

/// A dense matrix, the same for all slices; the image itself where it has no rows.
#[derive(Debug)]
struct Matrix {
    place: Place,
    /// `[measurements, points]`
    rows: Vec<Vec<f32>>,
}

impl Matrix {
    fn identity(place: Place) -> Self {
        Self { place, rows: Vec::new() }
    }

    fn random(place: Place, n_rows: usize) -> Self {
        let n = place.size();
        let random = Philox::new(5, 3);
        let row = |i: usize| (0..n).map(|j| random.normal((i * n + j) as u64) as f32 + 0.3).collect();
        Self { rows: (0..n_rows).map(row).collect(), place }
    }

    /// Measurements of a slice.
    fn n(&self) -> usize {
        if self.rows.is_empty() { self.place.size() } else { self.rows.len() }
    }

    fn measure(&mut self, image: &[f32]) -> Vec<f32> {
        let mut v = Buffer::from_vec(&Device::cpu(), image.to_vec()).expect("room");
        let mut q = Buffer::zeros(&Device::cpu(), self.measured_len()).expect("room");
        self.forward(&mut v, &mut q).expect("it runs");
        q.into_vec()
    }
}

impl Operator for Matrix {
    fn place(&self) -> &Place {
        &self.place
    }

    fn measured_len(&self) -> usize {
        self.place.slices.len() * self.n()
    }

    fn forward(&mut self, v: &mut Buffer<f32>, q: &mut Buffer<f32>) -> Result<()> {
        if self.rows.is_empty() {
            q.host_mut().copy_from_slice(v.host());
            return Ok(());
        }
        let sums = v.host().chunks(self.place.size()).flat_map(|slice| {
            self.rows.iter().map(move |row| row.iter().zip(slice).map(|(a, v)| f64::from(a * v)).sum::<f64>() as f32)
        });
        let sums: Vec<f32> = sums.collect();
        q.host_mut().copy_from_slice(&sums);
        Ok(())
    }

    fn back(&mut self, q: &mut Buffer<f32>, v: &mut Buffer<f32>) -> Result<()> {
        if self.rows.is_empty() {
            v.host_mut().copy_from_slice(q.host());
            return Ok(());
        }
        for (slice, q) in v.host_mut().chunks_mut(self.place.size()).zip(q.host().chunks(self.rows.len())) {
            for (i, v) in slice.iter_mut().enumerate() {
                *v = self.rows.iter().zip(q).map(|(row, q)| f64::from(row[i] * q)).sum::<f64>() as f32;
            }
        }
        Ok(())
    }

    fn dot(&self, a: &[f32], b: &[f32]) -> Result<f64> {
        let sums: Vec<f64> = a.chunks(self.n()).zip(b.chunks(self.n())).map(|(a, b)| vectors::dot(a, b)).collect();
        self.place.sum(&sums)
    }

    fn keep<'a>(&self, name: &str, q: &'a mut Buffer<f32>, fields: &mut Fields<'a>) {
        let shape = [self.place.all, self.n()];
        fields.array(name, &shape, convoke_cluster::Region::rows(&shape, self.place.slices.clone()), q.host_mut());
    }

    fn device(&self) -> &Device {
        static CPU: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
        CPU.get_or_init(Device::cpu)
    }
}

fn place(comm: Comm, all: usize, points: [usize; 2]) -> Place {
    let slices = block(all, comm.rank(), comm.size());
    Place { comm, slices, all, points, leads: true }
}

fn params(minimiser: Minimiser, weight: f64) -> TvParams {
    let weight = Weight::Given(weight);
    let spec = VariationSpec { weight, kind: None, along: None, penalty: None, inner: None, tolerance: None };
    spec.params(minimiser, 1)
}

fn solve(operator: &mut Matrix, y: Vec<f32>, params: TvParams, steps: u64) -> (Vec<f32>, f64) {
    let y = Buffer::from_vec(&Device::cpu(), y).expect("room");
    let mut solver = TotalVariation::new(operator, y, params).expect("room");
    for number in 0..steps {
        solver.step(operator, number).expect("a step");
    }
    let [fidelity, variation, weight] = solver.objective(operator).expect("an objective");
    (solver.image().host().to_vec(), fidelity + weight * variation)
}

const ALL: [Minimiser; 3] = [Minimiser::Fista, Minimiser::Admm, Minimiser::Pdhg];

/// A step of height h along z, between a and b slices: λ moves one side by λ/a, the other by λ/b towards each other (Strong and Chan, Inverse
/// Problems 19 (2003) S165), for every voxel by itself.
#[test]
fn a_step_shrinks_by_what_its_sides_are_long() {
    let (a, b, lambda) = (3, 5, 0.3);
    for minimiser in ALL {
        for along in [Along::Z, Along::Xyz] {
            let mut operator = Matrix::identity(place(Comm::solo(), a + b, [2, 3]));
            let y: Vec<f32> = (0..(a + b) * 6).map(|i| if i < a * 6 { 0.2 } else { 1.2 }).collect();
            let params = TvParams { along, penalty: Some(0.3), ..params(minimiser, lambda) };
            let (x, _) = solve(&mut operator, y, params, 300);
            for (i, x) in x.iter().enumerate() {
                let due = if i < a * 6 { 0.2 + lambda / a as f64 } else { 1.2 - lambda / b as f64 };
                assert!((f64::from(*x) - due).abs() < 1e-4, "{minimiser:?} {along:?}: voxel {i} is {x}, due {due}");
            }
        }
    }
}

/// The optimum of a cube of side c on an empty ground with anisotropic variation: the cube falls by λ·surface/volume = 6λ/c, the ground rises by
/// λ·surface/(all − volume), as both are convex bodies for that norm and stay flat.
#[test]
fn a_cube_falls_by_its_surface_over_its_volume() {
    let (n, c, lambda) = (8, 4, 0.05);
    let inside = |i: usize| [i / (n * n), i / n % n, i % n].iter().all(|k| (2..6).contains(k));
    let y: Vec<f32> = (0..n * n * n).map(|i| f32::from(u8::from(inside(i)))).collect();
    for minimiser in ALL {
        let mut operator = Matrix::identity(place(Comm::solo(), n, [n, n]));
        let params = TvParams { kind: Kind::Anisotropic, penalty: Some(0.3), ..params(minimiser, lambda) };
        let (x, objective) = solve(&mut operator, y.clone(), params, 200);
        let (volume, surface, rest) = ((c * c * c) as f64, (6 * c * c) as f64, (n * n * n - c * c * c) as f64);
        for (i, x) in x.iter().enumerate() {
            let due = if inside(i) { 1.0 - lambda * surface / volume } else { lambda * surface / rest };
            assert!((f64::from(*x) - due).abs() < 2e-4, "{minimiser:?}: voxel {i} is {x}, due {due}");
        }
        let (down, up) = (lambda * surface / volume, lambda * surface / rest);
        let due = 0.5 * (down * down * volume + up * up * rest) + lambda * surface * (1.0 - down - up);
        assert!((objective / due - 1.0).abs() < 1e-4, "{minimiser:?}: {objective}, due {due}");
    }
}

/// A disc of radius r keeps its shape and falls by 2λ/r (Strong and Chan 2003): isotropic variation, to the steps of the grid.
#[test]
fn a_disc_falls_by_twice_lambda_over_its_radius() {
    let (n, r, lambda) = (40, 12.0, 1.0);
    let far = |i: usize| ((i / n) as f64 - 19.5).hypot((i % n) as f64 - 19.5);
    let y: Vec<f32> = (0..n * n).map(|i| (r + 0.5 - far(i)).clamp(0.0, 1.0) as f32).collect();
    let mut operator = Matrix::identity(place(Comm::solo(), 1, [n, n]));
    let (x, _) = solve(&mut operator, y, params(Minimiser::Fista, lambda), 60);
    let inner: Vec<f64> = (0..n * n).filter(|i| far(*i) < r - 4.0).map(|i| f64::from(x[i])).collect();
    let mean = inner.iter().sum::<f64>() / inner.len() as f64;
    assert!((mean - (1.0 - 2.0 * lambda / r)).abs() < 0.01, "{mean}");
}

/// Noisy data of an underdetermined matrix: the three algorithms end at one objective, which no image near by undercuts.
#[test]
fn three_algorithms_have_one_minimum() {
    for (non_negative, kind) in [(false, Kind::Isotropic), (true, Kind::Isotropic), (true, Kind::Anisotropic)] {
        let here = place(Comm::solo(), 3, [4, 6]);
        let mut operator = Matrix::random(here.clone(), 14);
        let image: Vec<f32> = (0..3 * 24).map(|i| if i % 6 < 3 && i > 24 { 1.0 } else { 0.0 }).collect();
        let noise: Vec<f32> = here.normal(1, 4).collect();
        let mut y = operator.measure(&image);
        y.iter_mut().zip(&noise).for_each(|(y, n)| *y += 0.3 * n);
        let mask: Vec<f32> = (0..24).map(|i| f32::from(u8::from(i % 7 != 0))).collect();
        let mut found = Vec::new();
        for (minimiser, steps) in [(Minimiser::Fista, 400), (Minimiser::Admm, 150), (Minimiser::Pdhg, 1500)] {
            let params = TvParams { kind, non_negative, mask: Some(mask.clone()), inner: 8, ..params(minimiser, 2e-3) };
            let mut masked = Masked(Matrix { place: here.clone(), rows: operator.rows.clone() }, mask.clone());
            let y = Buffer::from_vec(&Device::cpu(), y.clone()).expect("room");
            let mut solver = TotalVariation::new(&masked.0, y, params).expect("room");
            for number in 0..steps {
                solver.step(&mut masked, number).expect("a step");
            }
            let allowed = solver.image().host().to_vec();
            assert!(!non_negative || allowed.iter().all(|x| *x >= 0.0));
            assert!(allowed.chunks(24).all(|slice| slice.iter().zip(&mask).all(|(x, m)| *m == 1.0 || *x == 0.0)));
            let [fidelity, variation, weight] = solver.objective(&mut masked).expect("an objective");
            found.push(fidelity + weight * variation);
        }
        for objective in &found {
            assert!((objective / found[0] - 1.0).abs() < 1e-4, "{non_negative} {kind:?}: {found:?}");
        }
    }
}

/// A matrix on the voxels of a mask.
#[derive(Debug)]
struct Masked(Matrix, Vec<f32>);

impl Masked {
    fn cut(&self, v: &mut Buffer<f32>) {
        let slices = v.host_mut().chunks_mut(self.1.len());
        slices.for_each(|slice| slice.iter_mut().zip(&self.1).for_each(|(v, m)| *v *= m));
    }
}

impl Operator for Masked {
    fn place(&self) -> &Place {
        self.0.place()
    }

    fn measured_len(&self) -> usize {
        self.0.measured_len()
    }

    fn forward(&mut self, v: &mut Buffer<f32>, q: &mut Buffer<f32>) -> Result<()> {
        self.cut(v);
        self.0.forward(v, q)
    }

    fn back(&mut self, q: &mut Buffer<f32>, v: &mut Buffer<f32>) -> Result<()> {
        self.0.back(q, v)?;
        self.cut(v);
        Ok(())
    }

    fn dot(&self, a: &[f32], b: &[f32]) -> Result<f64> {
        self.0.dot(a, b)
    }

    fn keep<'a>(&self, name: &str, q: &'a mut Buffer<f32>, fields: &mut Fields<'a>) {
        self.0.keep(name, q, fields);
    }

    fn device(&self) -> &Device {
        self.0.device()
    }
}

/// The same bits on one to four slabs, some of one slice.
#[test]
fn slabs_do_not_change_the_image() {
    for minimiser in ALL {
        let on = |ranks: usize| -> Vec<f32> {
            let parts = run_threads(ranks, |comm| {
                let mut operator = Matrix::random(place(comm, 5, [4, 5]), 9);
                let image: Vec<f32> = operator.place.normal(2, 6).collect();
                let y = operator.measure(&image);
                let params = TvParams { non_negative: true, ..params(minimiser, 1e-2) };
                Ok(solve(&mut operator, y, params, 6).0)
            });
            parts.into_iter().flat_map(|part| part.expect("it runs")).collect()
        };
        let alone = on(1);
        for ranks in 2..=4 {
            assert!(on(ranks) == alone, "{minimiser:?} on {ranks}");
        }
    }
}
