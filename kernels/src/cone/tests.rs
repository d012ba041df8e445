//! Tests of the cone-beam pair.

use super::*;
use crate::Philox;
use std::f64::consts::TAU;

fn random(len: usize, stream: u64) -> Vec<f32> {
    let p = Philox::new(8, stream);
    (0..len as u64).map(|i| p.normal(i) as f32).collect()
}

fn buffer(values: &[f32]) -> Buffer<f32> {
    Buffer::from_vec(&Device::cpu(), values.to_vec()).unwrap()
}

fn angles(n: usize) -> Vec<f64> {
    (0..n).map(|i| 0.3 + TAU * i as f64 / n as f64).collect()
}

/// Orbits of every kind, with volumes of odd and even sizes, some larger than the detector sees.
fn geometries() -> Vec<(&'static str, ConeGeometry)> {
    let circle = |n: usize, pixel: f64, detector| Orbit::circle(angles(n), [120.0, 190.0], pixel, detector);
    let on = |orbit: Orbit, shape: [usize; 3], voxel: f64| {
        let [n_rows, n_cols] = orbit.detector;
        ConeGeometry { views: orbit.views(), n_rows, n_cols, shape, voxel, centre: [0.0; 3] }
    };
    let plain = circle(9, 1.7, [29, 34]);
    let mut moved = on(circle(5, 1.4, [40, 41]), [19, 23, 20], 1.1);
    moved.centre = [2.5, -1.25, 3.0];
    let mut turned = on(circle(4, 1.5, [21, 33]), [12, 14, 13], 1.0);
    for (i, view) in turned.views.iter_mut().enumerate() {
        // Downward rows on some views: no upright path takes these.
        if i % 2 == 0 {
            view.origin = std::array::from_fn(|k| view.origin[k] + 20.0 * view.along_v[k]);
            view.along_v = view.along_v.map(|x| -x);
        }
    }
    vec![
        ("circle", on(plain.clone(), [21, 25, 26], 1.0)),
        ("truncated", on(circle(7, 1.7, [13, 17]), [24, 27, 25], 1.0)),
        ("offset, small voxels", on(Orbit { shift: [9.3, -2.2], ..plain.clone() }, [33, 40, 39], 0.4)),
        ("large voxels", on(circle(6, 0.9, [51, 47]), [11, 13, 12], 2.0)),
        ("coarse rows", on(Orbit { pixel: [1.7, 6.0], ..circle(6, 1.7, [9, 40]) }, [26, 22, 21], 1.0)),
        ("helix", on(Orbit { rise_per_turn: 25.0, ..plain.clone() }, [30, 22, 21], 1.0)),
        ("moved", moved),
        ("roll", on(Orbit { roll_rad: 0.21, ..plain.clone() }, [20, 22, 23], 1.0)),
        ("tilt", on(Orbit { tilt_rad: 0.5, ..plain }, [10, 24, 25], 1.0)),
        ("mixed", turned),
    ]
}

fn projector(g: &ConeGeometry, part: ConePart, footprint: ConeFootprint, simd: Option<Simd>) -> ConeProjector {
    let all = ConeProjector::new(&Device::cpu(), Arc::new(g.clone()), part, footprint).unwrap();
    ConeProjector { simd, ..all }
}

fn whole(g: &ConeGeometry, footprint: ConeFootprint, simd: Option<Simd>) -> ConeProjector {
    projector(g, ConePart::whole(g), footprint, simd)
}

fn forward(p: &ConeProjector, x: &[f32]) -> Vec<f32> {
    let mut y = Buffer::zeros(&Device::cpu(), p.sinogram_len()).unwrap();
    p.forward(&mut buffer(x), &mut y).unwrap();
    y.into_vec()
}

fn back(p: &ConeProjector, y: &[f32]) -> Vec<f32> {
    let mut x = Buffer::zeros(&Device::cpu(), p.volume_len()).unwrap();
    p.back(&mut buffer(y), &mut x).unwrap();
    x.into_vec()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Largest difference over largest magnitude.
fn difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(1e-30f32, |m, v| m.max(v.abs()));
    f64::from(a.iter().zip(b).fold(0f32, |m, (a, b)| if (a - b).abs() <= m { m } else { (a - b).abs() }) / largest)
}

fn levels() -> impl Iterator<Item = Option<Simd>> {
    std::iter::once(None).chain(Simd::available().iter().copied().map(Some))
}

#[test]
fn the_pair_is_adjoint_to_1e_6_on_every_path() {
    for (name, g) in geometries() {
        for footprint in [ConeFootprint::Linear, ConeFootprint::Shadow, ConeFootprint::Joseph] {
            // Joseph's has one path.
            let n = if footprint == ConeFootprint::Joseph { 1 } else { usize::MAX };
            for simd in levels().take(n) {
                let p = whole(&g, footprint, simd);
                let (x, y) = (random(p.volume_len(), 0), random(p.sinogram_len(), 1));
                let (ax, aty) = (forward(&p, &x), back(&p, &y));
                assert!(dot(&ax, &ax) > 0.0 && dot(&aty, &aty) > 0.0);
                let mismatch = (dot(&ax, &y) - dot(&x, &aty)).abs() / (dot(&ax, &ax) * dot(&y, &y)).sqrt();
                assert!(mismatch < 1e-6, "{name}, {footprint:?}, {simd:?}: {mismatch:e}");
            }
        }
    }
}

#[test]
fn fast_paths_equal_the_reference_to_3e_6_of_the_maximum() {
    for (name, g) in geometries() {
        for footprint in [ConeFootprint::Linear, ConeFootprint::Shadow] {
            let oracle = whole(&g, footprint, None);
            let (x, y) = (random(oracle.volume_len(), 0), random(oracle.sinogram_len(), 1));
            let (ax, aty) = (forward(&oracle, &x), back(&oracle, &y));
            for simd in Simd::available() {
                let p = whole(&g, footprint, Some(*simd));
                let (df, db) = (difference(&forward(&p, &x), &ax), difference(&back(&p, &y), &aty));
                assert!(df < 3e-6 && db < 3e-6, "{name}, {footprint:?}, {simd:?}: {df:e} {db:e}");
            }
        }
    }
}

#[test]
fn threads_and_slabs_do_not_change_a_bit_of_the_image() {
    for (name, g) in geometries() {
        for footprint in [ConeFootprint::Linear, ConeFootprint::Joseph] {
            let p = whole(&g, footprint, Some(machine::simd()));
            let (x, y) = (random(p.volume_len(), 0), random(p.sinogram_len(), 1));
            let (ax, aty) = (forward(&p, &x), back(&p, &y));
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                assert!(pool.install(|| forward(&p, &x)) == ax && pool.install(|| back(&p, &y)) == aty, "{name}");
            }
            // Slabs with the rows that they need, and no others.
            let row_len = g.views.len() * g.n_cols;
            let mut sum = vec![0.0f64; ax.len()];
            for slices in [0..5, 5..g.shape[0] - 1, g.shape[0] - 1..g.shape[0]] {
                let band = |v: usize| match footprint {
                    ConeFootprint::Joseph => g.rows_of_rays(v, slices.clone()),
                    _ => g.rows_of(v, slices.clone(), 1.0),
                };
                let bands: Vec<_> = (0..g.views.len()).map(band).collect();
                let seen = bands.iter().filter(|b| !b.is_empty());
                let rows = seen.clone().map(|b| b.start).min().unwrap_or(0)..seen.map(|b| b.end).max().unwrap_or(0);
                let voxels = slices.start * g.slice_len()..slices.end * g.slice_len();
                let part = ConePart { slices, rows: rows.clone(), ..ConePart::whole(&g) };
                let slab = projector(&g, part, footprint, Some(machine::simd()));
                let band = rows.start * row_len..rows.end * row_len;
                assert!(
                    back(&slab, &y[band.clone()]) == aty[voxels.clone()],
                    "{name}, {footprint:?}: slab of {voxels:?}"
                );
                let share = forward(&slab, &x[voxels]);
                sum[band].iter_mut().zip(share).for_each(|(s, v)| *s += f64::from(v));
            }
            let sum: Vec<f32> = sum.iter().map(|s| *s as f32).collect();
            assert!(difference(&sum, &ax) < 3e-6, "{name}, {footprint:?}: the shares of the slabs add up");
        }
    }
}

#[test]
fn some_views_give_their_part_of_the_sums() {
    let (_, g) = geometries().remove(0);
    let all = whole(&g, ConeFootprint::Linear, Some(machine::simd()));
    let views = vec![7, 2, 3];
    let some = projector(
        &g,
        ConePart { views: views.clone(), ..ConePart::whole(&g) },
        ConeFootprint::Linear,
        Some(machine::simd()),
    );
    let x = random(all.volume_len(), 0);
    let (ax, part) = (forward(&all, &x), forward(&some, &x));
    for (row, part) in part.chunks(views.len() * g.n_cols).enumerate() {
        for (view, part) in views.iter().zip(part.chunks(g.n_cols)) {
            assert_eq!(part, &ax[(row * g.views.len() + view) * g.n_cols..][..g.n_cols]);
        }
    }
}

/// The closed form of a circle: U = R - x sin + y cos, u = (x cos + y sin) D/U, v = z D/U, w = U/D (to 1e-12), and tilt,
/// roll and shift by turning the point instead.
#[test]
fn matrices_equal_the_closed_forms() {
    let (r, d) = (500.0, 800.0);
    let beta = 0.7f64;
    let (sin, cos) = beta.sin_cos();
    let orbit = Orbit { shift: [3.0, -4.0], pixel: [0.5, 0.25], ..Orbit::circle(vec![beta], [r, d], 1.0, [11, 21]) };
    let point = [12.0, -31.0, 17.0];
    let [x, y, z] = point;
    let depth = r - x * sin + y * cos;
    let (u, v) = ((x * cos + y * sin) * d / depth, z * d / depth);
    let [col, row, w] = orbit.views()[0].project(point);
    assert!((col - ((u - 3.0) / 0.5 + 10.0)).abs() < 1e-10 && (row - ((v + 4.0) / 0.25 + 5.0)).abs() < 1e-10);
    assert!((w - depth / d).abs() < 1e-12);
    // A source that is lifted by the tilt sees what an upright one sees of a point that is turned down about x.
    let upright = Orbit { shift: [0.0; 2], pixel: [1.0; 2], ..orbit };
    let upright = Orbit { angles_rad: vec![0.0], ..upright };
    let tilted = Orbit { tilt_rad: 0.4, ..upright.clone() };
    let (st, ct) = 0.4f64.sin_cos();
    let turned = [x, y * ct - z * st, y * st + z * ct];
    let (a, b) = (tilted.views()[0].project(point), upright.views()[0].project(turned));
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-10), "{a:?} {b:?}");
    let rolled = Orbit { roll_rad: 0.3, ..upright.clone() }.views()[0].project(point);
    let plain = upright.views()[0].project(point);
    let (sr, cr) = 0.3f64.sin_cos();
    let (du, dv) = (plain[0] - 10.0, plain[1] - 5.0);
    assert!(
        (rolled[0] - 10.0 - (cr * du + sr * dv)).abs() < 1e-10 && (rolled[1] - 5.0 - (cr * dv - sr * du)).abs() < 1e-10
    );
    let helix = Orbit { rise_per_turn: 60.0, angles_rad: vec![0.0, TAU], ..upright };
    let heights: Vec<f64> = helix.views().iter().map(|v| v.source[2]).collect();
    assert!((heights[0] + 30.0).abs() < 1e-12 && (heights[1] - 30.0).abs() < 1e-12, "{heights:?}");
}

/// A Gaussian blob exp(-r^2/2s^2): its line integrals are s sqrt(2 pi) exp(-d^2/2s^2) at the distance d of the line. The
/// pair's and Joseph's forward are within the blur of hats of a voxel's width, 1 %.
#[test]
fn projections_of_a_blob_are_its_integrals() {
    let (n, s) = (56, 7.0);
    let orbit = Orbit::circle(angles(5), [150.0, 225.0], 1.25, [72, 72]);
    let tilted = Orbit { tilt_rad: 0.6, roll_rad: 0.4, shift: [1.0, 2.0], ..orbit.clone() };
    let centre = [3.0, -2.0, 1.0];
    for orbit in [orbit, tilted] {
        let [n_rows, n_cols] = orbit.detector;
        let g = ConeGeometry { views: orbit.views(), n_rows, n_cols, shape: [n; 3], voxel: 1.0, centre: [0.0; 3] };
        let blob = |d2: f64| (-d2 / (2.0 * s * s)).exp();
        let at = |i: usize| i as f64 - (n as f64 - 1.0) / 2.0;
        let value = |i: usize| {
            let d = geometry::sub([at(i % n), at(i / n % n), at(i / n / n)], centre);
            blob(geometry::dot(d, d)) as f32
        };
        let volume: Vec<f32> = (0..n * n * n).map(value).collect();
        let mut exact = Vec::new();
        for row in 0..n_rows {
            for view in &g.views {
                for col in 0..n_cols {
                    let pixel: [f64; 3] = std::array::from_fn(|k| {
                        view.origin[k] + col as f64 * view.along_u[k] + row as f64 * view.along_v[k] - view.source[k]
                    });
                    let to = geometry::sub(centre, view.source);
                    let along = geometry::dot(pixel, to) / geometry::norm(pixel);
                    exact.push((s * TAU.sqrt() * blob(geometry::dot(to, to) - along * along)) as f32);
                }
            }
        }
        let p = whole(&g, ConeFootprint::Shadow, Some(machine::simd()));
        let mut joseph = Buffer::zeros(&Device::cpu(), p.sinogram_len()).unwrap();
        p.forward_joseph(&mut buffer(&volume), &mut joseph).unwrap();
        for (name, found) in [("pair", forward(&p, &volume)), ("Joseph", joseph.into_vec())] {
            let error: Vec<f32> = found.iter().zip(&exact).map(|(a, b)| a - b).collect();
            let relative = (dot(&error, &error) / dot(&exact, &exact)).sqrt();
            assert!(relative < 0.01, "{name}: {relative}");
        }
    }
}

#[test]
fn impossible_views_are_refused_with_their_number() {
    let good = |pixel: f64, to: [f64; 2]| {
        let views = Orbit::circle(angles(3), to, pixel, [8, 8]).views();
        ConeGeometry { views, n_rows: 8, n_cols: 8, shape: [8; 3], voxel: 1.0, centre: [0.0; 3] }
    };
    good(1.5, [40.0, 60.0]).check().unwrap();
    let fault = |g: ConeGeometry| match g.check() {
        Err(KernelError::View { view, fault }) => (view, fault),
        other => panic!("{other:?}"),
    };
    assert_eq!(fault(good(1.5, [3.0, 60.0])), (0, ViewFault::SourceInVolume));
    assert_eq!(fault(good(1.5, [4.5, 60.0])), (0, ViewFault::BesideSource));
    assert!(matches!(fault(good(1.5, [40.0, 42.0])), (0, ViewFault::DetectorInVolume { .. })));
    let mut g = good(1.5, [40.0, 60.0]);
    g.views[2].along_v = g.views[2].along_u;
    assert_eq!(fault(g), (2, ViewFault::NoPlane));
    let mut g = good(1.5, [40.0, 60.0]);
    g.views[1].source[1] = f64::NAN;
    assert_eq!(fault(g), (1, ViewFault::NotFinite));
    let mut g = good(1.5, [40.0, 60.0]);
    g.views[1].origin = std::array::from_fn(|k| g.views[1].origin[k] + 40.0 * g.views[1].along_u[k]);
    assert_eq!(fault(g), (1, ViewFault::Misses));
    let mut g = good(1.5, [40.0, 60.0]);
    g.views[0].origin = g.views[0].origin.map(|x| -3.0 * x);
    assert_eq!(fault(g), (0, ViewFault::Behind));
    let mut g = good(1.5, [40.0, 60.0]);
    g.voxel = 0.0;
    assert!(matches!(g.check(), Err(KernelError::Parameter { what: "voxel", .. })));
}

/// FDK of exact projections of a ball: 1 inside, 0 outside, away from the edge; in units of length that are not voxels.
#[test]
fn a_ball_comes_back_from_its_chords() {
    use crate::{RampFilter, RampParams};
    let (n, voxel, radius) = (40, 0.7, 9.0);
    let orbit = Orbit::circle(angles(120), [110.0, 170.0], 1.0, [44, 48]);
    let g = ConeGeometry { views: orbit.views(), n_rows: 44, n_cols: 48, shape: [n; 3], voxel, centre: [0.0; 3] };
    let mut data = Vec::new();
    for row in 0..g.n_rows {
        for view in &g.views {
            for col in 0..g.n_cols {
                let ray: [f64; 3] = std::array::from_fn(|k| {
                    view.origin[k] + col as f64 * view.along_u[k] + row as f64 * view.along_v[k] - view.source[k]
                });
                let along = geometry::dot(ray, view.source) / geometry::norm(ray);
                let distance2 = geometry::dot(view.source, view.source) - along * along;
                data.push(2.0 * (radius * radius - distance2).max(0.0).sqrt() as f32);
            }
        }
    }
    let fdk = weights::FdkWeights::new(&g).unwrap();
    let part = ConePart::whole(&g);
    let mut q = buffer(&fdk.weigh(&part.rows, &part.views, &data));
    let filter = RampFilter::new(&Device::cpu(), RampParams::new(fdk.geometry.n_cols, fdk.pitch_at_axis)).unwrap();
    filter.apply(part.views.len(), &mut q).unwrap();
    let p = ConeProjector::new(&Device::cpu(), Arc::new(fdk.geometry.clone()), part, ConeFootprint::Linear).unwrap();
    let mut image = Buffer::zeros(&Device::cpu(), p.volume_len()).unwrap();
    p.back_filtered(&fdk.views, &mut q, &mut image).unwrap();
    let centred = |i: usize| (i as f64 - (n as f64 - 1.0) / 2.0) * voxel;
    for (i, value) in image.host().iter().enumerate() {
        let distance = geometry::norm([centred(i % n), centred(i / n % n), centred(i / n / n)]);
        let on_plane = centred(i / n / n).abs() < 1.0;
        if on_plane && distance < radius - 2.0 * voxel {
            assert!((value - 1.0).abs() < 0.02, "voxel {i}: {value}");
        } else if on_plane && distance > radius + 2.0 * voxel && distance < 13.0 {
            assert!(value.abs() < 0.05, "voxel {i}: {value}");
        }
    }
}
