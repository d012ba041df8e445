//! The oracle against properties of its formulas: central differences, adjoints, moments; and what is refused.

use super::*;
use crate::Philox;

fn random(len: usize, stream: u64) -> Vec<f64> {
    (0..len as u64).map(|i| Philox::new(29, stream).normal(i)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn moved(at: &[f64], direction: &[f64], by: f64) -> Vec<f64> {
    at.iter().zip(direction).map(|(a, d)| a + by * d).collect()
}

const S: SpaceTime = SpaceTime { places: 3, times: 4, latent: 2, output: 5 };

/// Central differences along random directions of the parameters and of the fields, to 1e-7.
#[test]
fn derivatives_of_a_network_are_slopes() {
    let feed = Feed { h: 3, inside: 7, start: 0 };
    let (p, x, g) = (random(feed.count(), 1), random(2 * 3 * 5, 2), random(2 * 3 * 5, 3));
    let (dx, dp) = reference::feed_back(&feed, 2, &p, &x, &g);
    let (along_p, along_x) = (random(p.len(), 4), random(x.len(), 5));
    let value = |by_p: f64, by_x: f64| {
        dot(&reference::feed(&feed, 2, &moved(&p, &along_p, by_p), &moved(&x, &along_x, by_x)), &g)
    };
    let h = 1e-5;
    for (slope, found) in [
        ((value(h, 0.0) - value(-h, 0.0)) / (2.0 * h), dot(&dp, &along_p)),
        ((value(0.0, h) - value(0.0, -h)) / (2.0 * h), dot(&dx, &along_x)),
    ] {
        assert!((slope - found).abs() < 1e-7 * slope.abs().max(1.0), "{found} {slope}");
    }
}

/// W(γ v + β) + b is the folded map of v; its gradients are slopes, to 1e-7.
#[test]
fn folded_maps_are_both_maps() {
    let h = 3;
    let parts = [random(h, 1), random(h, 2), random(h * h, 3), random(h, 4)];
    let refs = |parts: &[Vec<f64>; 4]| reference::fold(parts.each_ref().map(Vec::as_slice));
    let folded = refs(&parts);
    let v = random(h, 5);
    for r in 0..h {
        let inner = |c: usize| parts[0][c] * v[c] + parts[1][c];
        let both: f64 = (0..h).map(|c| parts[2][r * h + c] * inner(c)).sum::<f64>() + parts[3][r];
        assert!((both - dot(&folded[r * h..(r + 1) * h], &v) - folded[h * h + r]).abs() < 1e-13);
    }
    let c = random(h * h + h, 6);
    let gradient = reference::unfold([&parts[0], &parts[1], &parts[2]], &c);
    for (i, gradient) in gradient.iter().enumerate() {
        let direction = random(gradient.len(), 10 + i as u64);
        let value = |by: f64| {
            let mut at = parts.clone();
            at[i] = moved(&at[i], &direction, by);
            dot(&refs(&at), &c)
        };
        let (slope, found) = ((value(1e-5) - value(-1e-5)) / 2e-5, dot(gradient, &direction));
        assert!((slope - found).abs() < 1e-7 * slope.abs().max(1.0), "{i}: {found} {slope}");
    }
}

/// ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ to 1e-13 of everything that moves numbers about.
#[test]
fn ways_back_are_adjoints() {
    let (samples, h) = (2, 3);
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-13 * a.abs().max(1.0), "{a} {b}");
    let (v, g) = (random(samples * h * S.places * S.times, 1), random(samples * h * S.places * S.latent, 2));
    let mut back = vec![0.0; v.len()];
    reference::gather(S.times, S.latent, &g, &mut back);
    close(dot(&reference::newest(S.times, S.latent, &v), &g), dot(&v, &back));
    let zeros = vec![0.0; samples * S.places * S.times];
    let (reduced, z) = (random(samples * S.places * S.latent, 3), random(samples * S.places * (S.latent + 1), 4));
    close(dot(&reference::join(&S, &zeros, &reduced), &z), dot(&reduced, &reference::cut(&S, &z)));
    let (changes, made) = (random(samples * S.places * S.output, 5), random(samples * S.places * S.output, 6));
    close(dot(&reference::forecast(&S, &zeros, &changes), &made), dot(&changes, &reference::forecast_back(&S, &made)));
    let (bias, y) = (random(2 * 4 * 3, 7), random(samples * 2 * 4 * 3, 8));
    let mut added = vec![0.0; y.len()];
    reference::add_bias(3, 0.3, &bias, &mut added);
    close(dot(&added, &y), dot(&bias, &reference::bias_gradient(3, 0.3, bias.len(), &y)));
}

/// By hand: the newest snapshot comes first, changes are turned and added to it; real parts of a bias lie before imaginary ones.
#[test]
fn numbers_lie_where_they_are_said_to_lie() {
    let s = SpaceTime { places: 2, times: 2, latent: 1, output: 2 };
    let w = [1.0, 2.0, 3.0, 4.0];
    assert_eq!(reference::join(&s, &w, &[10.0, 20.0]), [3.0, 10.0, 4.0, 20.0]);
    assert_eq!(reference::forecast(&s, &w, &[0.1, 0.2, 0.3, 0.4]), [3.1, 4.3, 3.2, 4.4]);
    let mut y = vec![0.0; 4];
    reference::add_bias(2, 2.0, &[1.0, 2.0, 3.0, 4.0], &mut y);
    assert_eq!(y, [2.0, 6.0, 4.0, 8.0]);
}

#[test]
fn standard_fields_have_mean_0_and_variance_1() {
    let (encoding, w) = (random(3 * S.places * S.times, 1), random(2 * S.places * S.times, 2));
    let v = reference::standard(&S, 1e-7, &encoding, &w);
    for v in v.chunks(encoding.len()) {
        let mean = v.iter().sum::<f64>() / v.len() as f64;
        let variance = v.iter().map(|v| v * v).sum::<f64>() / v.len() as f64 - mean * mean;
        assert!(mean.abs() < 1e-14 && (variance - 1.0).abs() < 1e-6, "{mean:e} {variance}");
    }
    // Channels differ by their encoding alone.
    let (line, scale) = (S.places * S.times, (v[0] - v[1]) / (encoding[0] + w[0] - encoding[1] - w[S.places]));
    assert!((v[0] - v[line] - scale * (encoding[0] - encoding[line])).abs() < 1e-13);
}

#[test]
fn what_does_not_fit_is_refused() {
    let device = Device::cpu();
    let buffer = |n: usize| Buffer::<f32>::zeros(&device, n).unwrap();
    let feed = Feed { h: 2, inside: 3, start: 1 };
    let (mut p, mut x, mut s, mut out) = (buffer(30), buffer(8), buffer(8), buffer(8));
    let scratch = &mut Scratch::default();
    assert!(feed.back(&device, 1, &mut buffer(17), &mut x, &mut s, &mut out).is_err());
    assert!(feed.back(&device, 3, &mut p, &mut x, &mut s, &mut out).is_err());
    assert!(feed.gradient(&device, 1, &mut p, &mut x, &mut buffer(6), &mut buffer(30), scratch).is_err());
    let mut v = buffer(7);
    for beside in
        [Beside::Map(0, 4, &mut v), Beside::Newest(2, 3, &mut buffer(8)), Beside::Newest(2, 4, &mut buffer(6))]
    {
        assert!(feed.forward(&device, 1, &mut p, &mut x, beside, &mut s, &mut out).is_err());
    }
    let mut w = buffer(S.places * S.times);
    assert!(S.standard(&device, 1, 0.0, &mut buffer(13), &mut w, scratch, &mut buffer(13)).is_err());
    assert!(S.standard(&device, 2, 0.0, &mut buffer(12), &mut w, scratch, &mut buffer(24)).is_err());
    assert!(S.gather(&device, &mut buffer(5), &mut buffer(8)).is_err());
    assert!(S.join(&device, 1, &mut w, &mut buffer(6), &mut buffer(8)).is_err());
    assert!(S.cut(&device, 1, &mut buffer(9), &mut buffer(5)).is_err());
    assert!(S.forecast(&device, 1, &mut w, &mut buffer(14), &mut buffer(14)).is_err());
    assert!(S.forecast_back(&device, 1, &mut buffer(15), &mut buffer(14)).is_err());
    let folded = Folded { h: 2, scale: 0, shift: 2, weight: 4, bias: 8 };
    assert!(folded.fold(&device, &mut buffer(9), &mut buffer(6)).is_err());
    assert!(folded.unfold(&device, &mut buffer(10), &mut buffer(6), &mut buffer(9)).is_err());
    let bias = ModeBias { outer: 2, inner: 3, start: 1, factor: 1.0 };
    assert!(bias.add(&device, 1, &mut buffer(12), &mut buffer(12)).is_err());
    assert!(bias.gradient(&device, 2, &mut buffer(12), &mut buffer(13)).is_err());
}
