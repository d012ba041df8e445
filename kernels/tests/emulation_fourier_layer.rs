//! Fourier layers under emulation (the same launches as on a GPU) against sums over all points and modes in double precision. Skipped,
//! with a printed reason, where there is no g++.

#![allow(clippy::unwrap_used)]

mod common;

use common::devices;
use convoke_kernels::fourier_layer::*;
use convoke_kernels::*;

fn random(len: usize, stream: u64) -> Vec<f32> {
    (0..len as u64).map(|i| Philox::new(23, stream).normal(i) as f32).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// Parameters of maps of so many channels, of the size that keeps fields as large as they were.
fn parameters_of(len: usize, from: usize) -> Vec<f32> {
    random(len, 1).iter().map(|v| v / (from as f32).sqrt()).collect()
}

/// Differences of single from double precision, of the largest value: sums of some hundred rounded products.
const ROUNDING: f64 = 2e-6;

#[track_caller]
fn assert_close(found: &[f32], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0f64, |m, v| m.max(v.abs()));
    assert!(largest > 0.0, "{what}: nothing is compared");
    // Not `max`, which passes over NaN.
    let worst = found
        .iter()
        .zip(expected)
        .map(|(a, b)| (f64::from(*a) - b).abs() / largest)
        .fold(0.0, |m, d| if d <= m { m } else { d });
    assert!(worst <= ROUNDING, "{what}: {worst:e} of the largest");
}

/// Grids beyond a tile of 32 modes and 64 points on some axis, short lines, lines that are no multiple of 4, all modes of an axis.
fn grids() -> Vec<(Vec<usize>, Vec<usize>)> {
    vec![
        (vec![131], vec![66]),
        (vec![7], vec![2]),
        (vec![37, 70], vec![17, 19]),
        (vec![66, 10], vec![3, 6]),
        (vec![9, 10, 11], vec![4, 2, 6]),
        (vec![6, 5, 3], vec![1, 2, 2]),
    ]
}

#[test]
fn transforms_equal_the_sums_over_all_points_to_2e_6() {
    for device in devices() {
        for (points, modes) in grids() {
            let mut t = Transform::new(&device, &points, &modes).unwrap();
            for fields in [1, 5] {
                let (x, y) = (random(fields * t.size(), 1), random(2 * fields * t.kept(), 2));
                for scale in [Scale::One, Scale::Inverse] {
                    let what = format!("{device:?} {points:?} {fields} {scale:?}");
                    let mut found = Buffer::zeros(&device, y.len()).unwrap();
                    t.analysis(scale, &mut Buffer::from_vec(&device, x.clone()).unwrap(), &mut found).unwrap();
                    assert_close(found.host(), &reference::analysis(&points, &modes, scale, &wide(&x)), &what);
                    let mut found = Buffer::zeros(&device, x.len()).unwrap();
                    t.synthesis(scale, &mut Buffer::from_vec(&device, y.clone()).unwrap(), &mut found).unwrap();
                    assert_close(found.host(), &reference::synthesis(&points, &modes, scale, &wide(&y)), &what);
                }
            }
        }
    }
}

#[test]
fn transforms_in_windows_equal_the_sums_to_2e_6() {
    for device in devices() {
        let (points, modes, window) = ([5, 6, 11], [2, 3, 9], Window { period: 23, offset: 12 });
        let mut t = Transform::window(&device, &points, &modes, window).unwrap();
        let (x, y) = (random(3 * t.size(), 1), random(6 * t.kept(), 2));
        for scale in [Scale::One, Scale::Inverse] {
            let mut found = Buffer::zeros(&device, y.len()).unwrap();
            t.analysis(scale, &mut Buffer::from_vec(&device, x.clone()).unwrap(), &mut found).unwrap();
            assert_close(found.host(), &reference::analysis_in(window, &points, &modes, scale, &wide(&x)), "modes");
            let mut found = Buffer::zeros(&device, x.len()).unwrap();
            t.synthesis(scale, &mut Buffer::from_vec(&device, y.clone()).unwrap(), &mut found).unwrap();
            assert_close(found.host(), &reference::synthesis_in(window, &points, &modes, scale, &wide(&y)), "points");
        }
    }
}

/// Forward with GELU once, twice and without, and backward times slopes, for channels within a tile and beyond it.
#[test]
fn fused_layers_equal_their_parts_to_2e_6() {
    for device in devices() {
        for (points, modes) in grids() {
            for (samples, from, to) in [(1, 1, 2), (2, 9, 37)] {
                let bias = 5 + from * to;
                let map = Mix { from, to, weight: 3, bias: Some(bias) };
                let parameters = parameters_of(bias + to + 1, from);
                let (w, b) = (wide(&parameters[3..3 + from * to]), wide(&parameters[bias..bias + to]));
                let buffer = |v: &[f32]| Buffer::from_vec(&device, v.to_vec()).unwrap();
                let (mut t, mut p) = (Transform::new(&device, &points, &modes).unwrap(), buffer(&parameters));
                let add = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<f64>>();
                let (size, kept, what) = (t.size(), t.kept(), format!("{device:?} {points:?} {samples} {from} {to}"));
                let of = |channels: usize, stream| random(samples * channels * size, stream);
                let modes_of = |channels: usize, stream| random(2 * samples * channels * kept, stream);

                let (v, y) = (of(from, 2), modes_of(to, 3));
                let sums = add(
                    reference::mix(&w, Some(&b), &wide(&v), samples, from),
                    reference::synthesis(&points, &modes, Scale::Inverse, &wide(&y)),
                );
                for times in [0, 1, 2] {
                    let [mut out, mut slopes] = [0, 1].map(|_| Buffer::zeros(&device, samples * to * size).unwrap());
                    let after = if times == 0 { After::Nothing } else { After::Gelu(times, &mut slopes) };
                    t.layer(map, samples, &mut p, &mut buffer(&y), &mut buffer(&v), after, &mut out).unwrap();
                    let (values, derivatives) = reference::gelu(&sums, times);
                    assert_close(out.host(), &values, &what);
                    if times > 0 {
                        assert_close(slopes.host(), &derivatives, &format!("{what}: slopes"));
                    }
                }

                let (g, y, factor) = (of(to, 4), modes_of(from, 5), of(from, 6));
                let sums = add(
                    reference::mix(&reference::transpose(&w, to, from), None, &wide(&g), samples, to),
                    reference::synthesis(&points, &modes, Scale::One, &wide(&y)),
                );
                let times: Vec<f64> = sums.iter().zip(&factor).map(|(s, f)| s * f64::from(*f)).collect();
                for (expected, is_times) in [(&sums, false), (&times, true)] {
                    let (mut out, mut factor) =
                        (Buffer::zeros(&device, samples * from * size).unwrap(), buffer(&factor));
                    let after = if is_times { After::Times(&mut factor) } else { After::Nothing };
                    t.layer_back(map, samples, &mut p, &mut buffer(&y), &mut buffer(&g), after, &mut out).unwrap();
                    assert_close(out.host(), expected, &format!("{what}: back"));
                }
            }
        }
    }
}

/// Sizes: of one, within a tile, beyond tiles of 32 channels, 64 points and a piece of 256.
#[test]
fn pointwise_maps_and_their_gradients_equal_the_sums_to_2e_6() {
    for device in devices() {
        for (samples, from, to, points) in [(1, 1, 1, 1), (3, 3, 130, 61), (2, 65, 33, 1100), (1, 32, 31, 2049)] {
            let bias = 1 + from * to;
            let map = Mix { from, to, weight: 1, bias: Some(bias) };
            let parameters = parameters_of(bias + to, from);
            let (w, b) = (wide(&parameters[1..bias]), wide(&parameters[bias..]));
            let (x, g) = (random(samples * from * points, 2), random(samples * to * points, 3));
            let buffer = |v: &[f32]| Buffer::from_vec(&device, v.to_vec()).unwrap();
            let (mut p, mut out) = (buffer(&parameters), Buffer::zeros(&device, g.len()).unwrap());
            let what = format!("{device:?} {samples} {from} {to} {points}");
            mix(&device, map, samples, &mut p, &mut buffer(&x), After::Nothing, &mut out).unwrap();
            let expected = reference::mix(&w, Some(&b), &wide(&x), samples, from);
            assert_close(out.host(), &expected, &what);
            let mut slopes = Buffer::zeros(&device, g.len()).unwrap();
            mix(&device, map, samples, &mut p, &mut buffer(&x), After::Gelu(1, &mut slopes), &mut out).unwrap();
            let (values, derivatives) = reference::gelu(&expected, 1);
            assert_close(out.host(), &values, &what);
            assert_close(slopes.host(), &derivatives, &what);
            let mut back = Buffer::zeros(&device, x.len()).unwrap();
            mix_back(&device, map, samples, &mut p, &mut buffer(&g), After::Nothing, &mut back).unwrap();
            let turned = reference::transpose(&w, to, from);
            assert_close(back.host(), &reference::mix(&turned, None, &wide(&g), samples, to), &what);
            // What lies beside the map stays.
            let mut gradient = buffer(&vec![7.0; bias + to + 2]);
            let scratch = &mut Scratch::default();
            mix_gradient(&device, map, samples, &mut buffer(&x), &mut buffer(&g), &mut gradient, scratch).unwrap();
            let (dw, db) = reference::mix_gradient(&wide(&x), &wide(&g), samples, (from, to));
            let found = gradient.host();
            assert!(found[0] == 7.0 && found[bias + to..] == [7.0; 2]);
            assert_close(&found[1..bias], &dw, &what);
            assert_close(&found[bias..bias + to], &db, &what);
            // Without a bias, and with fields that are added, gated and not.
            let linear = Mix { bias: None, ..map };
            let mut gradient = buffer(&vec![7.0; bias + to + 2]);
            mix_gradient(&device, linear, samples, &mut buffer(&x), &mut buffer(&g), &mut gradient, scratch).unwrap();
            assert_close(&gradient.host()[1..bias], &dw, &what);
            assert!(gradient.host()[bias..].iter().all(|v| *v == 7.0));
            for gate in [None, Some(1)] {
                let then = Box::new(After::Gelu(1, &mut slopes));
                let mut beside = buffer(&g);
                let after = After::Plus(&mut beside, gate, then);
                mix(&device, linear, samples, &mut p, &mut buffer(&x), after, &mut out).unwrap();
                let mut sums = reference::mix(&w, None, &wide(&x), samples, from);
                let gates = gate.map(|gate| wide(&parameters[gate..gate + to]));
                reference::plus(&mut sums, &wide(&g), gates.as_deref(), (to, points));
                assert_close(out.host(), &reference::gelu(&sums, 1).0, &what);
            }
            let mut gates = buffer(&vec![7.0; to + 2]);
            gate_gradient(&device, (samples, to), &mut buffer(&g), &mut out, (&mut gates, 1)).unwrap();
            let expected = reference::gate_gradient(&wide(&g), &wide(out.host()), to, points);
            assert_close(&gates.host()[1..to + 1], &expected, &what);
            assert!(gates.host()[0] == 7.0 && gates.host()[to + 1] == 7.0);
        }
    }
}

#[test]
fn products_by_mode_and_their_derivatives_equal_the_sums_to_2e_6() {
    for device in devices() {
        for (samples, modes, from, to) in [(1, 1, 1, 1), (3, 5, 33, 7), (17, 9, 6, 40), (40, 2, 34, 35)] {
            let m = Modes { modes, from, to, weight: 4 };
            let parameters = random(4 + 2 * modes * from * to, 1);
            let w = wide(&parameters[4..]);
            let (x, g) = (random(2 * samples * from * modes, 2), random(2 * samples * to * modes, 3));
            let buffer = |v: &[f32]| Buffer::from_vec(&device, v.to_vec()).unwrap();
            let (mut p, what) = (buffer(&parameters), format!("{device:?} {samples} {modes} {from} {to}"));
            let mut y = Buffer::zeros(&device, g.len()).unwrap();
            m.product(&device, samples, &mut p, &mut buffer(&x), &mut y).unwrap();
            assert_close(y.host(), &reference::mode_product(&m, samples, &w, &wide(&x)), &what);
            let mut back = Buffer::zeros(&device, x.len()).unwrap();
            m.product_back(&device, samples, &mut p, &mut buffer(&g), &mut back).unwrap();
            assert_close(back.host(), &reference::mode_product_back(&m, samples, &w, &wide(&g)), &what);
            let mut gradient = buffer(&vec![7.0; parameters.len()]);
            m.gradient(&device, samples, &mut buffer(&x), &mut buffer(&g), &mut gradient).unwrap();
            assert!(gradient.host()[..4] == [7.0; 4]);
            let expected = reference::mode_gradient(&m, samples, &wide(&x), &wide(&g));
            assert_close(&gradient.host()[4..], &expected, &what);
        }
    }
}

/// Matrices and derivatives by core and factors, which begin at odd places, as on the processor; tensors within a tile and beyond it, of
/// more columns than a piece.
#[test]
fn tucker_products_and_their_derivatives_equal_the_processor_to_2e_6() {
    for device in devices() {
        for (extents, ranks) in [
            (vec![1, 2, 3], vec![1, 1, 2]),
            (vec![5, 34, 6, 7], vec![3, 33, 2, 5]),
            (vec![35, 3, 4, 2, 3], vec![34, 2, 3, 1, 3]),
        ] {
            let mut starts = vec![3];
            starts.push(3 + 2 * ranks.iter().product::<usize>());
            for (n, r) in extents.iter().zip(&ranks) {
                starts.push(starts[starts.len() - 1] + 2 * n * r);
            }
            let count = starts.pop().unwrap() + 1;
            let parameters = random(count, 1);
            let size = 2 * extents.iter().product::<usize>();
            let dw = random(size, 2);
            let [expected, found] = [&Device::cpu(), &device].map(|device| {
                let (core, factors) = (starts[0], starts[1..].to_vec());
                let places = Factors { extents: extents.clone(), ranks: ranks.clone(), core, factors };
                let mut product = Tucker::new(device, places).unwrap();
                let buffer = |v: &[f32]| Buffer::from_vec(device, v.to_vec()).unwrap();
                let (mut p, mut w, mut gradient) =
                    (buffer(&parameters), buffer(&vec![0.0; size]), buffer(&vec![7.0; count]));
                product.matrices(&mut p, &mut w).unwrap();
                let scratch = &mut Scratch::default();
                product.gradient(&mut p, &mut buffer(&dw), (&mut gradient, scratch)).unwrap();
                [w.into_vec(), gradient.into_vec()]
            });
            for (found, expected) in found.iter().zip(&expected) {
                assert_close(found, &wide(expected), &format!("{device:?} {extents:?}"));
            }
            assert!(found[1][..3] == [7.0; 3] && found[1][count - 1] == 7.0);
        }
    }
}

/// More numbers than a piece of the loss, means of channels and of points; a loss of zero has no slopes.
#[test]
fn losses_steps_and_sizes_equal_the_cpu() {
    for device in devices() {
        let buffer = |v: &[f32]| Buffer::from_vec(&device, v.to_vec()).unwrap();
        for (samples, size, means) in [(1, 1, 1), (3, 4500, 3), (2, 4097, 4097), (300, 4, 2)] {
            let (y, t) = (random(samples * size, 1), random(samples * size, 2));
            let (mean, deviation) = (random(means, 3), random(means, 4));
            let mut loss = RelativeL2::new(&device, size, mean.clone(), deviation.clone()).unwrap();
            let mut slope = Buffer::zeros(&device, y.len()).unwrap();
            let found = loss.slopes(samples, 0.5, &mut buffer(&y), &mut buffer(&t), &mut slope).unwrap();
            let both = (wide(&mean), wide(&deviation));
            let (norms, slopes) =
                reference::relative_l2((&wide(&y), &wide(&t)), (&both.0, &both.1), (samples, size / means), 0.5);
            for (found, [e, t]) in found.iter().zip(&norms) {
                assert!((found - e / t).abs() < 1e-6 * e / t, "{found} {}", e / t);
            }
            assert_close(slope.host(), &slopes, &format!("{device:?} {samples} {size} {means}"));
        }
        let mut plain = RelativeL2::new(&device, 5, vec![0.0], vec![1.0]).unwrap();
        let (t, mut slope) = (random(5, 9), buffer(&[1.0; 5]));
        let found = plain.slopes(1, 1.0, &mut buffer(&t), &mut buffer(&t), &mut slope).unwrap();
        assert!(found == [0.0] && slope.host() == [0.0; 5]);

        let n = 1031;
        let start = [random(n, 1), random(n, 2), random(n, 3), random(n, 4).iter().map(|v| v * v).collect()];
        let [cpu, gpu] = [&Device::cpu(), &device].map(|d| {
            let [mut p, mut g, mut m, mut v] = start.each_ref().map(|s| Buffer::from_vec(d, s.clone()).unwrap());
            for step in [0, 1, 2000] {
                let how = AdamW { beta: [0.9, 0.999], epsilon: 1e-8, rate: 1e-2, decay: 1e-2, step };
                adamw(d, how, &mut g, [&mut m, &mut v], &mut p).unwrap();
            }
            [p, m, v].map(Buffer::into_vec)
        });
        for (cpu, gpu) in cpu.iter().zip(&gpu) {
            assert_close(gpu, &wide(cpu), &format!("{device:?} AdamW"));
        }

        for (from, to) in [(vec![31], vec![40]), (vec![7, 9], vec![9, 10]), (vec![5, 6, 7], vec![4, 8, 7])] {
            let [size, out] = [&from, &to].map(|points| points.iter().product::<usize>());
            let x = random(3 * size, 5);
            let mut found = Buffer::zeros(&device, 3 * out).unwrap();
            resize(&device, &from, &to, &mut buffer(&x), &mut found).unwrap();
            assert_eq!(found.host(), reference::resize(&from, &to, &x), "{device:?} {from:?} {to:?}");
        }
    }
}
