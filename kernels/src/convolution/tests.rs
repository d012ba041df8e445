//! The oracle against properties of its formulas; and what is refused.

use super::*;
use crate::Philox;

fn random(len: usize, stream: u64) -> Vec<f64> {
    (0..len as u64).map(|i| Philox::new(41, stream).normal(i)).collect()
}

/// A point alone is spread as the kernel turned round, and what lies outside is zero.
#[test]
fn a_point_is_spread_as_the_kernel_turned_round() {
    let weight = random(2 * 3 * 9, 1);
    let (from, [h, w]) = (3, [4, 5]);
    for (c, y, x) in [(0, 2, 2), (1, 0, 0), (2, 3, 4)] {
        let mut field = vec![0.0; from * h * w];
        field[(c * h + y) * w + x] = 2.0;
        let out = reference::convolve(&weight, &[0.5, -1.0], &field, from, [h, w]);
        for (o, i, j) in (0..2 * h * w).map(|i| (i / (h * w), i / w % h, i % w)) {
            let (dy, dx) = (y as i64 - i as i64 + 1, x as i64 - j as i64 + 1);
            let inside = (0..3).contains(&dy) && (0..3).contains(&dx);
            let tap = if inside { weight[((o * from + c) * 3 + dy as usize) * 3 + dx as usize] } else { 0.0 };
            assert!((out[(o * h + i) * w + j] - [0.5, -1.0][o] - 2.0 * tap).abs() < 1e-15);
        }
    }
}

/// Slopes of zero leave SiLU of the offsets; others of a wide spread leave x̂ alone, of mean 0 and variance 1 in each group.
#[test]
fn groups_have_mean_zero_and_variance_one() {
    let (channels, groups, points) = (4, 2, 50);
    let x: Vec<f64> = random(2 * channels * points, 2).iter().map(|x| 3.0 * x - 7.0).collect();
    let silu = |u: f64| u / (1.0 + (-u).exp());
    let affine = [0.0, 0.0, 0.0, 0.0, 0.3, -2.0, 5.0, 0.0];
    let out = reference::normalise(&affine, groups, 1e-5, &x, points);
    for (i, out) in out.iter().enumerate() {
        assert!((out - silu(affine[channels + i / points % channels])).abs() < 1e-15);
    }
    // Far above zero SiLU is the identity.
    let out = reference::normalise(&[1.0, 1.0, 1.0, 1.0, 60.0, 60.0, 60.0, 60.0], groups, 0.0, &x, points);
    for group in out.chunks(channels / groups * points) {
        let n = group.len() as f64;
        let mean = group.iter().map(|v| v - 60.0).sum::<f64>() / n;
        let variance = group.iter().map(|v| (v - 60.0 - mean).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 1e-12 && (variance - 1.0).abs() < 1e-12, "{mean} {variance}");
    }
}

/// Halves of doubled fields are the fields; images that were taken apart come together again.
#[test]
fn points_come_back() {
    let (a, b) = (random(2 * 6, 3), random(2 * 2 * 24, 4));
    let joined = reference::double_and_join(&a, &b, [1, 2], [4, 6]);
    for (sample, joined) in joined.chunks(3 * 24).enumerate() {
        assert_eq!(reference::halve(&joined[..24], 6), a[sample * 6..(sample + 1) * 6]);
        assert_eq!(joined[24..], b[sample * 48..(sample + 1) * 48]);
    }
    let deep = reference::shuffle(&b, [4, 6], false);
    // Row 0: points (0, 0), (0, 2), (0, 4) of the first image lie in its first channel.
    assert_eq!(deep[..3], [b[0], b[2], b[4]]);
    assert_eq!(reference::shuffle(&deep, [4, 6], true), b);
}

#[test]
fn what_does_not_fit_is_refused() {
    let device = Device::cpu();
    let buffer = |len: usize| Buffer::<f32>::zeros(&device, len).unwrap();
    let c = Convolution { from: 2, to: 3, size: 3, weight: 1, bias: 55 };
    let apply = |c: Convolution, parameters: usize, x: usize, y: usize| {
        c.apply(&device, [2, 4], &mut buffer(parameters), &mut buffer(x), None, &mut buffer(y)).is_err()
    };
    assert!(!apply(c, 58, 32, 48));
    assert!(apply(c, 57, 32, 48) && apply(c, 58, 33, 48) && apply(c, 58, 32, 47));
    assert!(apply(Convolution { size: 5, ..c }, 1000, 32, 48) && apply(Convolution { from: 0, ..c }, 1000, 32, 48));
    let g = Groups { channels: 4, groups: 2, tiny: 1e-5, start: 1 };
    let norm = |g: Groups, affine: usize, x: usize, moments: usize| {
        g.apply(&device, 3, &mut buffer(affine), &mut buffer(x), &mut buffer(moments), &mut buffer(x)).is_err()
    };
    assert!(!norm(g, 9, 24, 8));
    assert!(norm(g, 8, 24, 8) && norm(g, 9, 25, 8) && norm(g, 9, 24, 9) && norm(Groups { groups: 3, ..g }, 9, 24, 12));
    assert!(halve(&device, [3, 4], &mut buffer(12), &mut buffer(3)).is_err());
    assert!(double_and_join(&device, [1, 1], [2, 2], &mut buffer(1), &mut buffer(4), &mut buffer(7)).is_err());
    let images = Images { h: 2, w: 2 };
    assert!(images.apart(&device, [0.0, 1.0], &mut buffer(6), &mut buffer(6)).is_err());
    assert!(images.together(&device, [0.0; 3], &mut buffer(4), &mut buffer(8), &mut buffer(4)).is_err());
}
