//! The oracle against properties of its formulas: adjoints, inverses, central differences; and what is refused.

use super::*;
use crate::Philox;

fn random(len: usize, stream: u64) -> Vec<f64> {
    (0..len as u64).map(|i| Philox::new(17, stream).normal(i)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Grids of one to three axes, odd and even, with as many modes as there can be on some axes.
fn grids() -> [(Vec<usize>, Vec<usize>); 5] {
    [
        (vec![12], vec![7]),
        (vec![9], vec![3]),
        (vec![6, 9], vec![3, 4]),
        (vec![5, 8], vec![2, 5]),
        (vec![4, 5, 6], vec![2, 1, 4]),
    ]
}

fn modes_of(points: &[usize], modes: &[usize]) -> usize {
    Transform::new(&Device::cpu(), points, modes).unwrap().kept()
}

/// By hand: a wave has one coefficient, N/2 of its amplitude, with the sign of its phase; negative modes come last.
#[test]
fn modes_lie_where_they_are_said_to_lie() {
    let (points, modes) = ([6, 8], [2, 3]);
    // cos(2π(−i/6 + 2j/8) + 0.3): k = (−1, 2), the last of 4 along the first axis and the last of 3 along the other.
    let wave = |flat: usize| {
        let turns = -((flat / 8) as f64) / 6.0 + 2.0 * (flat % 8) as f64 / 8.0;
        (std::f64::consts::TAU * turns + 0.3).cos()
    };
    let x: Vec<f64> = (0..48).map(wave).collect();
    let found = reference::analysis(&points, &modes, Scale::One, &x);
    let mut expected = vec![0.0; 2 * 12];
    expected[2 * (3 * 3 + 2)] = 24.0 * 0.3f64.cos();
    expected[2 * (3 * 3 + 2) + 1] = 24.0 * 0.3f64.sin();
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
    let back = reference::synthesis(&points, &modes, Scale::Inverse, &found);
    assert!(x.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-13));
}

/// ⟨T x, y⟩ = ⟨x, Tᴴ y⟩ to 1e-12, with the factors and without.
#[test]
fn syntheses_are_adjoints_of_analyses() {
    for (points, modes) in grids() {
        let (size, coefficients) = (points.iter().product::<usize>(), 2 * modes_of(&points, &modes));
        let (x, y) = (random(2 * size, 1), random(2 * coefficients, 2));
        for scale in [Scale::One, Scale::Inverse] {
            let left = dot(&reference::analysis(&points, &modes, scale, &x), &y);
            let right = dot(&x, &reference::synthesis(&points, &modes, scale, &y));
            assert!((left - right).abs() < 1e-12 * left.abs().max(1.0), "{points:?} {scale:?}: {left} {right}");
        }
    }
}

/// By hand: a window is what lies in zeros, and what is cut out of a synthesis.
#[test]
fn windows_are_parts_of_more_points() {
    let (window, x) = (Window { period: 9, offset: 4 }, random(2 * 3, 1));
    let mut whole = vec![0.0; 2 * 9];
    (0..2).for_each(|line| whole[9 * line + 4..9 * line + 7].copy_from_slice(&x[3 * line..3 * line + 3]));
    let close = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-13);
    for scale in [Scale::One, Scale::Inverse] {
        let found = reference::analysis_in(window, &[2, 3], &[1, 5], scale, &x);
        assert!(close(&found, &reference::analysis(&[2, 9], &[1, 5], scale, &whole)));
        let back = reference::synthesis_in(window, &[2, 3], &[1, 5], scale, &found);
        let all = reference::synthesis(&[2, 9], &[1, 5], scale, &found);
        assert!(close(&back, &[&all[4..7], &all[13..16]].concat()));
    }
    let refused = Transform::window(&Device::cpu(), &[2, 3], &[1, 2], Window { period: 6, offset: 4 });
    assert!(refused.is_err());
}

/// A layer σ(K v + W v + b) of random parameters, and Σ c·out of it.
struct Layer {
    points: Vec<usize>,
    modes: Vec<usize>,
    matrices: Modes,
    c: Vec<f64>,
}

const SAMPLES: usize = 2;

impl Layer {
    /// Fields before σ, and the modes of `v`.
    fn sums(&self, w: &[f64], mix: (&[f64], &[f64]), v: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let x = reference::analysis(&self.points, &self.modes, Scale::One, v);
        let y = reference::mode_product(&self.matrices, SAMPLES, w, &x);
        let mut sums = reference::mix(mix.0, Some(mix.1), v, SAMPLES, self.matrices.from);
        let fields = reference::synthesis(&self.points, &self.modes, Scale::Inverse, &y);
        sums.iter_mut().zip(fields).for_each(|(s, v)| *s += v);
        (sums, x)
    }

    fn value(&self, w: &[f64], mix: (&[f64], &[f64]), v: &[f64]) -> f64 {
        dot(&reference::gelu(&self.sums(w, mix, v).0, 2).0, &self.c)
    }
}

/// Central differences along random directions of the matrices of the modes, of W, b and v, to 1e-7; σ is applied twice.
#[test]
fn derivatives_of_a_layer_are_slopes() {
    for (points, modes) in grids() {
        let size: usize = points.iter().product();
        let matrices = Modes { modes: modes_of(&points, &modes), from: 2, to: 3, weight: 0 };
        let layer = Layer { c: random(SAMPLES * 3 * size, 5), points, modes, matrices };
        let parts = [random(2 * matrices.modes * 6, 1), random(6, 2), random(3, 3), random(SAMPLES * 2 * size, 4)];
        let [w, a, b, v] = &parts;
        let (sums, x) = layer.sums(w, (a, b), v);
        let g: Vec<f64> = reference::gelu(&sums, 2).1.iter().zip(&layer.c).map(|(s, c)| s * c).collect();
        let g_modes = reference::analysis(&layer.points, &layer.modes, Scale::Inverse, &g);
        let (da, db) = reference::mix_gradient(v, &g, SAMPLES, (2, 3));
        let mut dv = reference::mix(&reference::transpose(a, 3, 2), None, &g, SAMPLES, 3);
        let back = reference::mode_product_back(&matrices, SAMPLES, w, &g_modes);
        let fields = reference::synthesis(&layer.points, &layer.modes, Scale::One, &back);
        dv.iter_mut().zip(fields).for_each(|(d, v)| *d += v);
        let gradients = [reference::mode_gradient(&matrices, SAMPLES, &x, &g_modes), da, db, dv];
        for (i, gradient) in gradients.iter().enumerate() {
            let direction = random(gradient.len(), 20 + i as u64);
            let moved = |by: f64| {
                let mut at = parts.clone();
                at[i].iter_mut().zip(&direction).for_each(|(p, d)| *p += by * d);
                layer.value(&at[0], (&at[1], &at[2]), &at[3])
            };
            let (slope, found) = ((moved(1e-5) - moved(-1e-5)) / 2e-5, dot(gradient, &direction));
            assert!((slope - found).abs() < 1e-7 * slope.abs().max(1.0), "{:?} {i}: {found} {slope}", layer.points);
        }
    }
}

/// Central differences of the relative error, to 1e-7, with means of channels and of points; 0 and its slopes for no error.
#[test]
fn slopes_of_the_loss_are_slopes() {
    let (size, samples) = (12, 2);
    let (y, t, direction) = (random(24, 1), random(24, 2), random(24, 3));
    for means in [3, 12] {
        let (mean, deviation) = (random(means, 4), random(means, 5));
        let of = |y: &[f64]| reference::relative_l2((y, &t), (&mean, &deviation), (samples, size / means), 0.5);
        let value = |by: f64| {
            let moved: Vec<f64> = y.iter().zip(&direction).map(|(y, d)| y + by * d).collect();
            of(&moved).0.iter().map(|[e, t]| 0.5 * e / t).sum::<f64>()
        };
        let (slope, found) = ((value(1e-6) - value(-1e-6)) / 2e-6, dot(&of(&y).1, &direction));
        assert!((slope - found).abs() < 1e-7 * slope.abs(), "{found} {slope}");
    }
    let (norms, slopes) = reference::relative_l2((&t, &t), (&[0.0], &[1.0]), (samples, size), 1.0);
    assert!(norms.iter().all(|n| n[0] == 0.0) && slopes.iter().all(|s| *s == 0.0));
}

/// By hand: the first step is rate·sign(g) after the decay.
#[test]
fn the_first_step_goes_down_by_the_rate() {
    let device = Device::cpu();
    let buffer = |v: Vec<f32>| Buffer::from_vec(&device, v).unwrap();
    let (mut p, mut m, mut v) = (buffer(vec![1.0, -2.0]), buffer(vec![0.0; 2]), buffer(vec![0.0; 2]));
    let how = AdamW { beta: [0.9, 0.999], epsilon: 1e-8, rate: 0.1, decay: 0.01, step: 0 };
    adamw(&device, how, &mut buffer(vec![0.5, -0.1]), [&mut m, &mut v], &mut p).unwrap();
    assert!((p.host()[0] - 0.899).abs() < 1e-6 && (p.host()[1] + 1.898).abs() < 1e-6, "{:?}", p.host());
    assert!((m.host()[0] - 0.05).abs() < 1e-8 && (v.host()[0] - 0.00025).abs() < 1e-9);
}

/// Zeros go behind each axis and come off again.
#[test]
fn zeros_are_put_behind_each_axis() {
    let device = Device::cpu();
    let mut x = Buffer::from_vec(&device, (1..=8).map(|i| i as f32).collect()).unwrap();
    let mut y = Buffer::zeros(&device, 2 * 6).unwrap();
    resize(&device, &[2, 2], &[3, 2], &mut x, &mut y).unwrap();
    assert_eq!(y.host(), &[1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 5.0, 6.0, 7.0, 8.0, 0.0, 0.0]);
    let mut back = Buffer::zeros(&device, 8).unwrap();
    resize(&device, &[3, 2], &[2, 2], &mut y, &mut back).unwrap();
    assert_eq!(back.host(), x.host());
}

/// Matrices are the sum of all products of core and factors; a tensor is linear in each of them, so that differences are its derivatives.
#[test]
fn tucker_products_are_their_sums_and_derivatives_their_differences() {
    let (extents, ranks, device) = ([2, 3, 4, 3], [2, 1, 3, 2], Device::cpu());
    let (core, factors) = (1, vec![25, 33, 39, 63]);
    let parameters: Vec<f32> = random(75, 1).iter().map(|v| *v as f32).collect();
    let dw: Vec<f32> = random(144, 2).iter().map(|v| *v as f32).collect();
    let buffer = |v: &[f32]| Buffer::from_vec(&device, v.to_vec()).unwrap();
    let mut product = Tucker::new(
        &device,
        Factors { extents: extents.to_vec(), ranks: ranks.to_vec(), core, factors: factors.clone() },
    )
    .unwrap();
    let matrices = |product: &mut Tucker, parameters: &[f32]| {
        let mut out = buffer(&[0.0; 144]);
        product.matrices(&mut buffer(parameters), &mut out).unwrap();
        wide(out.host())
    };
    let found = matrices(&mut product, &parameters);
    let times = |a: [f64; 2], b: [f64; 2]| [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]];
    let at = |start: usize, i: usize| [0, 1].map(|part| f64::from(parameters[start + 2 * i + part]));
    for (i, o, x, y) in (0..72).map(|flat| (flat / 36, flat / 12 % 3, flat / 3 % 4, flat % 3)) {
        let mut sum = [0.0; 2];
        for (a, c, e) in (0..12).map(|flat| (flat / 6, flat / 2 % 3, flat % 2)) {
            let mut term = at(core, (a * 3 + c) * 2 + e);
            for (start, place) in [(25, i * 2 + a), (33, o), (39, x * 3 + c), (63, y * 2 + e)] {
                term = times(term, at(start, place));
            }
            sum = [sum[0] + term[0], sum[1] + term[1]];
        }
        for part in [0, 1] {
            let found = found[(2 * (x * 3 + y) + part) * 6 + i * 3 + o];
            assert!((found - sum[part]).abs() < 1e-5, "{i} {o} {x} {y}: {found} {}", sum[part]);
        }
    }
    let mut gradient = buffer(&[0.0; 75]);
    let scratch = &mut Scratch::default();
    product.gradient(&mut buffer(&parameters), &mut buffer(&dw), (&mut gradient, scratch)).unwrap();
    for block in [1..25, 25..33, 33..39, 39..63, 63..75] {
        let mut moved = parameters.clone();
        moved[block.clone()].iter_mut().zip(random(24, 3)).for_each(|(p, d)| *p += d as f32);
        let (slope, along) =
            (dot(&matrices(&mut product, &moved), &wide(&dw)) - dot(&found, &wide(&dw)), random(24, 3));
        let expected: f64 = gradient.host()[block.clone()].iter().zip(along).map(|(g, d)| f64::from(*g) * d).sum();
        assert!((slope - expected).abs() < 1e-4 * slope.abs().max(1.0), "{block:?}: {slope} {expected}");
    }
    assert!(product.matrices(&mut buffer(&parameters[..74]), &mut buffer(&dw)).is_err());
    assert!(product.matrices(&mut buffer(&parameters), &mut buffer(&dw[..143])).is_err());
}

/// By hand: fields are added before σ, each channel times its gate.
#[test]
fn gated_fields_are_added() {
    let device = Device::cpu();
    let buffer = |v: &[f32]| Buffer::from_vec(&device, v.to_vec()).unwrap();
    // W = 2, 3 of one channel; gates 10, 100.
    let (map, mut p) = (Mix { from: 1, to: 2, weight: 0, bias: None }, buffer(&[2.0, 3.0, 10.0, 100.0]));
    let (mut beside, mut factor, mut out) =
        (buffer(&[1.0, 2.0, 3.0, 4.0]), buffer(&[1.0, 1.0, 1.0, 0.5]), buffer(&[0.0; 4]));
    let after = After::Plus(&mut beside, Some(2), Box::new(After::Times(&mut factor)));
    mix(&device, map, 1, &mut p, &mut buffer(&[1.0, -1.0]), after, &mut out).unwrap();
    assert_eq!(out.host(), &[12.0, 18.0, 303.0, 198.5]);
    let mut gates = buffer(&[0.0; 3]);
    gate_gradient(&device, (1, 2), &mut beside, &mut out, (&mut gates, 1)).unwrap();
    assert_eq!(gates.host(), &[0.0, 48.0, 909.0 + 794.0]);
    let twice = After::Plus(&mut factor, None, Box::new(After::Plus(&mut beside, None, Box::new(After::Nothing))));
    assert!(mix(&device, map, 1, &mut p, &mut buffer(&[1.0, -1.0]), twice, &mut out).is_err());
    let beyond = After::Plus(&mut beside, Some(3), Box::new(After::Nothing));
    assert!(mix(&device, map, 1, &mut p, &mut buffer(&[1.0, -1.0]), beyond, &mut out).is_err());
}

#[test]
fn what_does_not_fit_is_refused() {
    let device = Device::cpu();
    let buffer = |n: usize| Buffer::<f32>::zeros(&device, n).unwrap();
    for (points, modes) in [(vec![8], vec![6]), (vec![8, 8], vec![5, 3]), (vec![8], vec![0]), (vec![8], vec![2, 2])] {
        assert!(Transform::new(&device, &points, &modes).is_err(), "{points:?} {modes:?}");
    }
    assert!(Transform::new(&device, &[2; 4], &[1; 4]).is_err() && Transform::new(&device, &[], &[]).is_err());
    let mut t = Transform::new(&device, &[8], &[3]).unwrap();
    assert!(t.analysis(Scale::One, &mut buffer(16), &mut buffer(11)).is_err());
    assert!(t.synthesis(Scale::One, &mut buffer(12), &mut buffer(15)).is_err());
    let map = Mix { from: 2, to: 3, weight: 0, bias: Some(6) };
    let mut p = buffer(9);
    let (mut y, mut v) = (buffer(18), buffer(16));
    assert!(t.layer(map, 1, &mut p, &mut y, &mut v, After::Nothing, &mut buffer(23)).is_err());
    assert!(t.layer(map, 1, &mut p, &mut y, &mut v, After::Gelu(1, &mut buffer(3)), &mut buffer(24)).is_err());
    assert!(mix(&device, map, 1, &mut buffer(8), &mut v, After::Nothing, &mut buffer(24)).is_err());
    assert!(mix(&device, map, 3, &mut p, &mut v, After::Nothing, &mut buffer(24)).is_err());
    assert!(mix_gradient(&device, map, 1, &mut v, &mut buffer(23), &mut p, &mut Scratch::default()).is_err());
    let modes = Modes { modes: 3, from: 2, to: 3, weight: 1 };
    assert!(modes.product(&device, 1, &mut buffer(36), &mut buffer(12), &mut buffer(18)).is_err());
    assert!(modes.product(&device, 1, &mut buffer(37), &mut buffer(18), &mut buffer(12)).is_err());
    assert!(modes.product_back(&device, 1, &mut buffer(37), &mut buffer(12), &mut buffer(18)).is_err());
    assert!(resize(&device, &[2; 4], &[2; 4], &mut buffer(16), &mut buffer(16)).is_err());
    assert!(RelativeL2::new(&device, 10, vec![0.0; 3], vec![1.0; 3]).is_err());
    assert!(RelativeL2::new(&device, 9, vec![0.0; 3], vec![1.0; 2]).is_err());
}
