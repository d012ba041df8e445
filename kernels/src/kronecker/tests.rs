use super::*;
use crate::Philox;

fn random(n: usize, stream: u64) -> Vec<f64> {
    let philox = Philox::new(1, stream);
    (0..n as u64).map(|i| philox.normal(i)).collect()
}

/// The definition, entry by entry.
fn by_definition(a: &[f64], (rows, cols): (usize, usize), (outer, inner): (usize, usize), x: &[f64]) -> Vec<f64> {
    let mut y = vec![0.0; outer * rows * inner];
    for o in 0..outer {
        for (i, j) in (0..rows).flat_map(|i| (0..cols).map(move |j| (i, j))) {
            for k in 0..inner {
                y[(o * rows + i) * inner + k] += a[i * cols + j] * x[(o * cols + j) * inner + k];
            }
        }
    }
    y
}

#[test]
fn a_mode_product_is_its_definition() {
    for (outer, rows, cols, inner) in
        [(1, 7, 5, 9), (6, 7, 5, 1), (4, 3, 8, 5), (1, 1, 1, 1), (0, 3, 2, 4), (3, 2, 0, 4)]
    {
        let (a, x) = (random(rows * cols, 1), random(outer * cols * inner, 2));
        let expected = by_definition(&a, (rows, cols), (outer, inner), &x);
        let device = Device::cpu();
        let mut a = Matrix::new(&device, rows, cols, a).unwrap();
        let mut x = Buffer::from_vec(&device, x).unwrap();
        let mut y = Buffer::from_vec(&device, random(outer * rows * inner, 3)).unwrap();
        for (accumulate, times) in [(false, 1.0), (true, 2.0)] {
            mode_product(&device, &mut a, (outer, inner), &mut x, &mut y, accumulate).unwrap();
            for (y, e) in y.host().iter().zip(&expected) {
                assert!((y - times * e).abs() < 1e-13, "{y} {e}");
            }
        }
    }
}

#[test]
fn division_by_a_sum_of_eigenvalues() {
    let (l1, l2, l3) = (random(3, 1), random(4, 2), random(5, 3));
    let x = random(60, 4);
    let mut y = Buffer::from_vec(&Device::cpu(), x.clone()).unwrap();
    divide_by_sum(&Device::cpu(), &[&l1, &l2, &l3], 0.5, &mut y).unwrap();
    for (n, y) in y.host().iter().enumerate() {
        let sum = 0.5 + l1[n / 20] + l2[n / 5 % 4] + l3[n % 5];
        assert!((y * sum - x[n]).abs() < 1e-12);
    }
}

#[test]
fn fused_vector_operations_and_lengths() {
    let device = Device::cpu();
    let n = 10_001;
    let mut xs: Vec<_> = (0..3).map(|s| Buffer::from_vec(&device, random(n, s)).unwrap()).collect();
    let mut y = Buffer::from_vec(&device, random(n, 7)).unwrap();
    let got = dots(&device, &mut xs, &mut y).unwrap();
    for (s, got) in got.iter().enumerate() {
        let expected: f64 = random(n, s as u64).iter().zip(random(n, 7)).map(|(x, y)| x * y).sum();
        assert!((got - expected).abs() < 1e-10);
    }
    add_combination(&device, &[2.0, -1.0, 0.5], &mut xs, &mut y).unwrap();
    let (a, b, c, d) = (random(n, 0), random(n, 1), random(n, 2), random(n, 7));
    for (i, y) in y.host().iter().enumerate() {
        assert!((y - (d[i] + 2.0 * a[i] - b[i] + 0.5 * c[i])).abs() < 1e-13);
    }
    let expected: f64 = y.host().iter().map(|y| y * y).sum();
    assert!((norm_squared(&device, &mut y).unwrap() - expected).abs() < 1e-12 * expected);
    let before = y.host().to_vec();
    let [x0, x1, _] = &mut xs[..] else { unreachable!() };
    add_product(&device, x0, x1, &mut y).unwrap();
    multiply(&device, x1, &mut y).unwrap();
    scale(&device, -2.0, &mut y).unwrap();
    for (i, y) in y.host().iter().enumerate() {
        assert_eq!(*y, (before[i] + a[i] * b[i]) * b[i] * -2.0);
    }
    assert!(add_combination(&device, &[1.0], &mut xs, &mut y).is_err());
    assert!(Matrix::new(&device, 2, 2, vec![0.0; 3]).is_err());
}
