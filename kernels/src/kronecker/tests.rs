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

/// Columns that are even and odd functions of the row in an irregular order, times `1 + noise`.
fn with_parity_of_columns(rows: usize, cols: usize, noise: f64) -> Vec<f64> {
    let (values, wobble) = (random(rows * cols, 5), random(rows * cols, 6));
    let entry = |i: usize, j: usize| {
        let sign = if j % 3 == 1 { -1.0 } else { 1.0 };
        let mirror = rows - 1 - i;
        let value = match i.cmp(&mirror) {
            std::cmp::Ordering::Less => values[i * cols + j],
            std::cmp::Ordering::Equal => 0.5 * (1.0 + sign) * values[i * cols + j],
            std::cmp::Ordering::Greater => sign * values[mirror * cols + j],
        };
        value * (1.0 + noise * wobble[i * cols + j].clamp(-1.0, 1.0))
    };
    (0..rows * cols).map(|at| entry(at / cols, at % cols)).collect()
}

fn transposed(a: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    (0..rows * cols).map(|at| a[at % rows * cols + at / rows]).collect()
}

#[test]
fn a_product_by_halves_is_the_dense_product_to_1e_13() {
    let device = Device::cpu();
    for (rows, cols) in [(8, 6), (9, 6), (7, 11), (1, 3), (2, 1), (65, 40)] {
        let columns = with_parity_of_columns(rows, cols, 1e-16);
        let of_rows = (transposed(&columns, rows, cols), cols, rows);
        for (a, rows, cols) in [(columns, rows, cols), of_rows] {
            for (outer, inner) in [(1, 70), (3, 5), (37, 1), (1000, 1), (2, 0), (0, 3), (1, 1500)] {
                let mut split = Matrix::with_parity(&device, rows, cols, a.clone()).unwrap();
                assert!(split.parity().is_some());
                let mut x = Buffer::from_vec(&device, random(outer * cols * inner, 2)).unwrap();
                let mut y = Buffer::from_vec(&device, random(outer * rows * inner, 3)).unwrap();
                let dense = by_definition(split.values(), (rows, cols), (outer, inner), x.host());
                for (accumulate, times) in [(false, 1.0), (true, 2.0)] {
                    // Also where it does not pay.
                    split.split.as_ref().unwrap().product(inner, x.host(), y.host_mut(), accumulate);
                    for (y, e) in y.host().iter().zip(&dense) {
                        assert!((y - times * e).abs() < 1e-13 * cols as f64, "{rows} {cols} {outer} {inner}: {y} {e}");
                    }
                }
            }
        }
    }
}

#[test]
fn parity_is_found_up_to_rounding_which_is_removed_and_not_beyond() {
    let device = Device::cpu();
    let find = |rows, cols, values| Matrix::with_parity(&device, rows, cols, values).unwrap();
    let mut a = find(31, 12, with_parity_of_columns(31, 12, 1e-14));
    assert_eq!(a.parity(), Some(Parity::Columns));
    let values = a.values();
    for (i, j) in (0..31).flat_map(|i| (0..12).map(move |j| (i, j))) {
        let sign = if j % 3 == 1 { -1.0 } else { 1.0 };
        assert_eq!(values[i * 12 + j], sign * values[(30 - i) * 12 + j]);
    }
    let a = transposed(&with_parity_of_columns(31, 12, 0.0), 31, 12);
    assert_eq!(find(12, 31, a).parity(), Some(Parity::Rows));
    assert_eq!(find(31, 12, with_parity_of_columns(31, 12, 1e-11)).parity(), None);
    assert_eq!(find(5, 4, random(20, 0)).parity(), None);
    assert_eq!(find(3, 1, vec![1.0, f64::NAN, 1.0]).parity(), None);
    assert_eq!(find(0, 4, vec![]).parity(), None);
    assert_eq!(Matrix::new(&device, 2, 1, vec![1.0, 1.0]).unwrap().parity(), None);
}

#[test]
fn products_have_the_same_bits_on_any_number_of_threads() {
    let device = Device::cpu();
    for (outer, n, inner) in [(1, 70, 3000), (150, 64, 30), (3000, 70, 1)] {
        let values = with_parity_of_columns(n, n, 0.0);
        let matrices =
            || [Matrix::new(&device, n, n, values.clone()), Matrix::with_parity(&device, n, n, values.clone())];
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                matrices().map(|a| {
                    let mut x = Buffer::from_vec(&device, random(outer * n * inner, 2)).unwrap();
                    let mut y = Buffer::zeros(&device, outer * n * inner).unwrap();
                    mode_product(&device, &mut a.unwrap(), (outer, inner), &mut x, &mut y, false).unwrap();
                    y.into_vec()
                })
            })
        };
        assert!(run(1) == run(3), "{outer} {n} {inner}");
    }
}
