//! Tests of the projector pair.

use super::*;
use crate::{FilterWindow, Philox, RampFilter, RampParams};
use std::f64::consts::PI;

const FOOTPRINTS: [Footprint; 2] = [Footprint::Linear, Footprint::Joseph];

pub(super) fn random(len: usize, stream: u64) -> Vec<f32> {
    let p = Philox::new(9, stream);
    (0..len as u64).map(|i| p.normal(i) as f32).collect()
}

fn buffer(values: Vec<f32>) -> Buffer<f32> {
    Buffer::from_vec(&Device::cpu(), values).unwrap()
}

pub(super) fn forward(p: &Projector, volume: &[f32]) -> Vec<f32> {
    let n_slices = volume.len() / p.geometry.slice_len();
    let mut sinogram = buffer(vec![0.0; n_slices * p.geometry.sinogram_len()]);
    p.forward(&mut buffer(volume.to_vec()), &mut sinogram).unwrap();
    sinogram.into_vec()
}

pub(super) fn back(p: &Projector, sinogram: &[f32]) -> Vec<f32> {
    let n_slices = sinogram.len() / p.geometry.sinogram_len();
    let mut volume = buffer(vec![f32::NAN; n_slices * p.geometry.slice_len()]);
    p.back(&mut buffer(sinogram.to_vec()), &mut volume).unwrap();
    volume.into_vec()
}

pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Largest difference as a part of the largest value.
pub(super) fn difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let max =
        |it: &mut dyn Iterator<Item = f32>| it.fold(0.0f32, |m, v| if v.is_nan() { f32::INFINITY } else { m.max(v) });
    let worst = max(&mut a.iter().zip(b).map(|(a, b)| (a - b).abs()));
    f64::from(worst) / f64::from(max(&mut b.iter().map(|b| b.abs()))).max(1e-30)
}

/// Geometries with odd sizes, nx != ny, an axis off the centre, coarse and fine columns, angles beyond half a turn.
pub(super) fn awkward_geometries() -> Vec<ParallelGeometry> {
    let geometry = |n_angles: usize, n_cols, col_pitch, axis_col, nx, ny| ParallelGeometry {
        angles_rad: (0..n_angles).map(|i| 0.3 + 1.07 * i as f64).collect(),
        n_cols,
        col_pitch,
        axis_col,
        nx,
        ny,
    };
    vec![
        geometry(7, 37, 1.0, 18.0, 37, 37),
        geometry(23, 41, 1.0, 17.3, 35, 19),
        geometry(5, 33, 1.7, 16.4, 29, 51),
        geometry(6, 90, 0.4, 44.9, 31, 27),
        geometry(13, 12, 1.0, 30.0, 40, 40),
        geometry(3, 1, 1.0, 0.0, 1, 1),
        ParallelGeometry {
            angles_rad: vec![0.0, PI / 4.0, PI / 2.0, PI, -PI / 2.0],
            ..ParallelGeometry::centred(5, 34)
        },
        ParallelGeometry { nx: 65, ny: 33, ..ParallelGeometry::centred(29, 70) },
    ]
}

#[test]
fn a_single_voxel_at_0_and_90_degrees_lands_where_its_coordinates_say() {
    // Volume 3 x 5, voxel (ix, iy) = (2, 1): x = 1, y = -1. Axis at column 4: 0 degrees hits 5, 90 degrees hits 3.
    let geometry = ParallelGeometry {
        angles_rad: vec![0.0, PI / 2.0, PI],
        n_cols: 9,
        col_pitch: 1.0,
        axis_col: 4.0,
        nx: 3,
        ny: 5,
    };
    for footprint in FOOTPRINTS {
        let p = Projector::new(&Device::cpu(), geometry.clone(), footprint).unwrap();
        let mut volume = vec![0.0; 15];
        volume[3 + 2] = 2.0;
        let sinogram = forward(&p, &volume);
        for (row, column) in [(0, 5), (1, 3), (2, 3)] {
            for j in 0..9 {
                let expected = if j == column { 2.0 } else { 0.0 };
                assert!((sinogram[row * 9 + j] - expected).abs() < 1e-6, "{footprint:?} row {row} column {j}");
            }
        }
    }
}

#[test]
fn linear_weights_of_a_voxel_add_to_1_at_pitch_1() {
    let g = ParallelGeometry { n_cols: 60, axis_col: 29.7, ..ParallelGeometry::centred(31, 33) };
    let p = Projector::new(&Device::cpu(), g, Footprint::Linear).unwrap();
    let volume: Vec<f32> = random(33 * 33, 1).iter().map(|v| v.abs()).collect();
    let mass: f64 = volume.iter().map(|v| f64::from(*v)).sum();
    for row in forward(&p, &volume).chunks(60) {
        let sum: f64 = row.iter().map(|v| f64::from(*v)).sum();
        assert!((sum / mass - 1.0).abs() < 1e-6);
    }
}

/// A disc of radius r at (x0, y0), voxels supersampled 4 x 4, and its exact line integrals 2 sqrt(r^2 - d^2).
fn disc(g: &ParallelGeometry, r: f64, x0: f64, y0: f64) -> (Vec<f32>, Vec<f32>) {
    let centre = |i: usize, n: usize| i as f64 - (n as f64 - 1.0) / 2.0;
    let sub = [-0.375, -0.125, 0.125, 0.375];
    let inside = |ix: usize, iy: usize| {
        let (x, y) = (centre(ix, g.nx) - x0, centre(iy, g.ny) - y0);
        let hits = sub.iter().flat_map(|a| sub.map(|b| (x + a).hypot(y + b) < r)).filter(|h| *h).count();
        hits as f32 / 16.0
    };
    let volume = (0..g.slice_len()).map(|i| inside(i % g.nx, i / g.nx)).collect();
    let integral = |angle: f64, j: usize| {
        let d = (j as f64 - g.axis_col) * g.col_pitch - (x0 * angle.cos() + y0 * angle.sin());
        (2.0 * (r * r - d * d).max(0.0).sqrt()) as f32
    };
    let sinogram = g.angles_rad.iter().flat_map(|a| (0..g.n_cols).map(move |j| integral(*a, j))).collect();
    (volume, sinogram)
}

#[test]
fn a_disc_projects_to_its_line_integrals_within_3_percent_in_l2() {
    for (footprint, col_pitch) in
        [(Footprint::Linear, 1.0), (Footprint::Joseph, 1.0), (Footprint::Linear, 1.3), (Footprint::Joseph, 0.5)]
    {
        let n_cols = (80.0 / col_pitch) as usize;
        let g = ParallelGeometry {
            n_cols,
            col_pitch,
            axis_col: n_cols as f64 / 2.0 + 0.2,
            ..ParallelGeometry::centred(24, 64)
        };
        let (volume, exact) = disc(&g, 20.3, 4.2, -7.1);
        let p = Projector::new(&Device::cpu(), g, footprint).unwrap();
        let got = forward(&p, &volume);
        let residual: Vec<f32> = got.iter().zip(&exact).map(|(a, b)| a - b).collect();
        let relative = (dot(&residual, &residual) / dot(&exact, &exact)).sqrt();
        assert!(relative < 0.03, "{footprint:?} pitch {col_pitch}: {relative}");
    }
}

#[test]
fn filtered_back_projection_of_a_disc_recovers_1_inside_and_0_outside_within_2_percent() {
    for (col_pitch, axis_shift) in [(1.0, 0.0), (1.0, 3.3), (0.8, -2.1)] {
        let n_cols = (96.0 / col_pitch) as usize;
        let axis_col = (n_cols as f64 - 1.0) / 2.0 + axis_shift;
        let g = ParallelGeometry { n_cols, col_pitch, axis_col, ..ParallelGeometry::centred(150, 64) };
        let (_, exact) = disc(&g, 18.0, 5.0, -6.0);
        let mut sinogram = buffer(exact);
        let params = RampParams { window: FilterWindow::Hann, ..RampParams::new(n_cols, col_pitch) };
        RampFilter::new(&Device::cpu(), params).unwrap().apply(150, &mut sinogram).unwrap();
        let mut volume = buffer(vec![0.0; 64 * 64]);
        let p = Projector::new(&Device::cpu(), g, Footprint::Linear).unwrap();
        p.back_weighted(&vec![(PI / 150.0 * col_pitch) as f32; 150], &mut sinogram, &mut volume).unwrap();
        let mean_where = |volume: &[f32], keep: &dyn Fn(f64) -> bool| {
            let kept: Vec<f32> = (0..64 * 64)
                .filter(|i| keep(((i % 64) as f64 - 36.5).hypot((i / 64) as f64 - 25.5)))
                .map(|i| volume[i])
                .collect();
            kept.iter().sum::<f32>() / kept.len() as f32
        };
        let inside = mean_where(volume.host(), &|r| r < 15.0);
        let outside = mean_where(volume.host(), &|r| r > 21.0 && r < 25.0);
        assert!((inside - 1.0).abs() < 0.02 && outside.abs() < 0.02, "{col_pitch} {axis_shift}: {inside} {outside}");
    }
}

#[test]
fn the_pair_is_adjoint_to_1e_6_also_on_subsets() {
    for (case, g) in awkward_geometries().into_iter().enumerate() {
        for footprint in FOOTPRINTS {
            let all = Projector::new(&Device::cpu(), g.clone(), footprint).unwrap();
            let some = all.subset(&(0..g.angles_rad.len()).rev().step_by(2).collect::<Vec<_>>()).unwrap();
            for p in [all, some] {
                let (x, y) = (random(3 * g.slice_len(), 0), random(3 * g.sinogram_len(), 1));
                let (ax, aty) = (forward(&p, &x), back(&p, &y));
                let norms = (dot(&ax, &ax) * dot(&y, &y)).sqrt();
                let mismatch = (dot(&ax, &y) - dot(&x, &aty)).abs() / norms.max(1e-30);
                assert!(mismatch < 1e-6, "case {case} {footprint:?}: {mismatch}");
            }
        }
    }
}

#[test]
fn a_subset_touches_only_its_rows_and_equals_the_whole_there() {
    let g = ParallelGeometry::centred(9, 21);
    for footprint in FOOTPRINTS {
        let p = Projector::new(&Device::cpu(), g.clone(), footprint).unwrap();
        let x = random(2 * g.slice_len(), 0);
        let whole = forward(&p, &x);
        let mut sinogram = buffer(vec![-7.0; 2 * g.sinogram_len()]);
        p.subset(&[6, 1]).unwrap().forward(&mut buffer(x), &mut sinogram).unwrap();
        for (i, (got, whole)) in sinogram.host().iter().zip(&whole).enumerate() {
            let row = i / g.n_cols % 9;
            assert_eq!(*got, if row == 1 || row == 6 { *whole } else { -7.0 });
        }
    }
    let p = Projector::new(&Device::cpu(), g, Footprint::Linear).unwrap();
    assert_eq!(p.subset(&[9]).unwrap_err(), KernelError::Index { what: "angle", index: 9, bound: 9 });
}

#[test]
fn weights_of_the_angles_scale_their_rows() {
    let g = ParallelGeometry::centred(5, 18);
    let p = Projector::new(&Device::cpu(), g.clone(), Footprint::Joseph).unwrap();
    let weights = [1.0, 0.5, 0.0, 2.0, -1.0];
    let y = random(g.sinogram_len(), 1);
    let scaled: Vec<f32> = y.iter().enumerate().map(|(i, v)| v * weights[i / 18]).collect();
    let mut volume = buffer(vec![0.0; 18 * 18]);
    p.back_weighted(&weights, &mut buffer(y), &mut volume).unwrap();
    assert!(difference(volume.host(), &back(&p, &scaled)) < 1e-6);
}

#[test]
fn wrong_lengths_and_geometries_are_errors() {
    let g = ParallelGeometry::centred(5, 18);
    let p = Projector::new(&Device::cpu(), g.clone(), Footprint::Joseph).unwrap();
    assert!(p.forward(&mut buffer(vec![0.0; 18 * 18]), &mut buffer(vec![0.0; 3])).is_err());
    assert!(p.back(&mut buffer(vec![0.0; 5 * 18]), &mut buffer(vec![0.0; 18])).is_err());
    assert!(p.back_weighted(&[1.0], &mut buffer(vec![0.0; 5 * 18]), &mut buffer(vec![0.0; 18 * 18])).is_err());
    let bad = |change: &dyn Fn(&mut ParallelGeometry)| {
        let mut g = g.clone();
        change(&mut g);
        Projector::new(&Device::cpu(), g, Footprint::Linear).is_err()
    };
    assert!(bad(&|g| g.nx = 0));
    assert!(bad(&|g| g.col_pitch = -1.0));
    assert!(bad(&|g| g.axis_col = f64::NAN));
    assert!(bad(&|g| g.angles_rad[1] = f64::INFINITY));
}
