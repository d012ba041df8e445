//! Kronecker operations under emulation (the same launches as on a GPU) against the CPU. Sizes are odd and go beyond a
//! tile, a warp and a block. Skipped, with a printed reason, where there is no g++.

#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

mod common;

use common::devices;
use convoke_kernels::kronecker::*;
use convoke_kernels::*;

fn normal(len: usize, stream: u64) -> Vec<f64> {
    let p = Philox::new(4, stream);
    (0..len as u64).map(|i| p.normal(i)).collect()
}

fn buffer(device: &Device, len: usize, stream: u64) -> Buffer<f64> {
    Buffer::from_vec(device, normal(len, stream)).unwrap()
}

#[track_caller]
fn assert_close(got: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        let close = (a - b).abs() <= tolerance * b.abs().max(1.0); // false for NaN
        assert!(close, "{what}: element {i} is {a}, the CPU has {b}");
    }
}

#[test]
fn mode_products_equal_the_cpu_to_1e_13_in_every_mode_and_accumulate() {
    // (outer, rows, cols, inner): one tile and parts of it, several tiles, one row, column or fibre, nothing at all.
    let shapes = [
        (1, 64, 16, 64),
        (1, 70, 37, 131),
        (3, 67, 33, 43),
        (5, 3, 65, 2),
        (131, 70, 37, 1),
        (67, 1, 5, 1),
        (64, 64, 16, 1),
        (1, 129, 1, 65),
        (2, 1, 50, 3),
        (1, 1, 1, 1),
        (3, 5, 0, 7),
        (3, 5, 0, 1),
        (0, 4, 3, 2),
        (3, 0, 4, 5),
        (3, 4, 5, 0),
    ];
    for device in devices() {
        for (outer, rows, cols, inner) in shapes {
            for accumulate in [false, true] {
                let run = |device: &Device| {
                    let mut a = Matrix::new(device, rows, cols, normal(rows * cols, 0)).unwrap();
                    let mut x = buffer(device, outer * cols * inner, 1);
                    let mut y = buffer(device, outer * rows * inner, 2);
                    mode_product(device, &mut a, (outer, inner), &mut x, &mut y, accumulate).unwrap();
                    y.into_vec()
                };
                let what = format!("{device:?} {outer} {rows} {cols} {inner} {accumulate}");
                assert_close(&run(&device), &run(&Device::cpu()), 1e-13 * (1.0 + cols as f64), &what);
            }
        }
    }
}

#[test]
fn division_equals_the_cpu_in_every_bit_for_1_to_4_axes() {
    for device in devices() {
        for shape in [&[301][..], &[5, 67], &[3, 41, 7], &[7, 1, 33, 3], &[4, 0, 3]] {
            let lambdas: Vec<Vec<f64>> = shape.iter().enumerate().map(|(d, n)| normal(*n, d as u64)).collect();
            let lambdas: Vec<&[f64]> = lambdas.iter().map(Vec::as_slice).collect();
            let run = |device: &Device| {
                let mut x = buffer(device, shape.iter().product(), 9);
                divide_by_sum(device, &lambdas, 0.75, &mut x).unwrap();
                x.into_vec()
            };
            assert_eq!(run(&device), run(&Device::cpu()), "{device:?} {shape:?}");
        }
    }
}

#[test]
fn dots_and_sums_equal_the_cpu_to_1e_12_for_0_to_70_vectors() {
    for device in devices() {
        for (n, k) in [(0, 3), (1, 1), (4096 + 301, 5), (2 * 4096, 33), (777, 70), (900, 0)] {
            let c = normal(k, 99);
            let run = |device: &Device| {
                let mut xs: Vec<Buffer<f64>> = (0..k as u64).map(|j| buffer(device, n, j)).collect();
                let mut y = buffer(device, n, 1000);
                let mut sums = dots(device, &mut xs, &mut y).unwrap();
                sums.push(norm_squared(device, &mut y).unwrap());
                add_combination(device, &c, &mut xs, &mut y).unwrap();
                (sums, y.into_vec())
            };
            let ((sums, y), (sums_cpu, y_cpu)) = (run(&device), run(&Device::cpu()));
            assert_close(&sums, &sums_cpu, 1e-12 * (1.0 + n as f64).sqrt(), "dots");
            assert_close(&y, &y_cpu, 1e-12, "add_combination");
            assert_eq!(run(&device).0, sums, "a second run has the same bits");
        }
    }
}

#[test]
fn scale_multiply_and_add_product_equal_the_cpu_to_rounding() {
    let n = 4096 + 301;
    for device in devices() {
        let run = |device: &Device| {
            let (mut q, mut v, mut y) = (buffer(device, n, 0), buffer(device, n, 1), buffer(device, n, 2));
            add_product(device, &mut q, &mut v, &mut y).unwrap();
            multiply(device, &mut q, &mut y).unwrap();
            scale(device, -1.5, &mut y).unwrap();
            y.into_vec()
        };
        assert_close(&run(&device), &run(&Device::cpu()), 1e-14, "scale (q (y + q v))");
        let mut empty = Buffer::zeros(&device, 0).unwrap();
        scale(&device, 2.0, &mut empty).unwrap();
        assert!(multiply(&device, &mut empty, &mut buffer(&device, 1, 0)).is_err());
    }
}

#[test]
fn packing_there_and_back_moves_the_named_parts_and_nothing_else() {
    for device in devices().into_iter().chain([Device::cpu()]) {
        for (outer, n, inner) in [(3, 41, 1), (67, 10, 5), (1, 10, 301), (0, 10, 1), (4, 10, 0)] {
            let x = normal(outer * n * inner, 0);
            for parts in [&[2..5][..], &[0..3, 3..3, 3..n], &[7..10, 0..2]] {
                let mut expected = Vec::new();
                for part in parts {
                    for (o, i) in (0..outer).flat_map(|o| part.clone().map(move |i| (o, i))) {
                        expected.extend_from_slice(&x[(o * n + i) * inner..][..inner]);
                    }
                }
                let mut packed = Buffer::zeros(&device, expected.len()).unwrap();
                let mut whole = Buffer::from_vec(&device, x.clone()).unwrap();
                pack(&device, (outer, n, inner), parts, &mut whole, &mut packed).unwrap();
                assert_eq!(packed.host(), expected, "{device:?} {parts:?}");
                scale(&device, 2.0, &mut packed).unwrap();
                unpack(&device, (outer, n, inner), parts, &mut packed, &mut whole).unwrap();
                for (at, (got, x)) in whole.host().iter().zip(&x).enumerate() {
                    let named = parts.iter().any(|part| part.contains(&(at / inner % n)));
                    assert_eq!(*got, if named { 2.0 * x } else { *x }, "{device:?} {parts:?} {at}");
                }
            }
        }
        let (mut x, mut packed) = (buffer(&device, 12, 0), buffer(&device, 4, 1));
        assert!(pack(&device, (2, 3, 2), &[2..4], &mut x, &mut packed).is_err());
        assert!(pack(&device, (2, 3, 2), &[0..2], &mut x, &mut packed).is_err());
    }
}

#[test]
fn a_copy_of_a_buffer_is_its_own_and_stays_on_the_device() {
    for device in devices() {
        let mut x = buffer(&device, 300, 0);
        scale(&device, 2.0, &mut x).unwrap(); // on the device now
        let mut copy = x.duplicate().unwrap();
        scale(&device, 0.5, &mut copy).unwrap();
        assert_eq!(copy.host(), normal(300, 0));
        x.host_mut()[0] = 7.0; // on the host now
        assert_eq!(x.duplicate().unwrap().host(), x.host());
    }
}
