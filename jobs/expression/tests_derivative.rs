//! Derivatives against finite differences and against formulas worked out by hand.

use super::*;
use proptest::prelude::*;
use std::f64::consts::PI;

fn parsed(text: &str) -> (Graph, NodeId, Variable, Variable) {
    let (mut graph, mut names) = (Graph::new(), Names::new());
    let [x, y] = ["x", "y"].map(|name| graph.symbol(name));
    for (name, symbol) in [("x", x), ("y", y)] {
        let node = graph.variable(symbol);
        names.insert(name, node);
    }
    let node = graph.parse(text, &names).unwrap_or_else(|e| panic!("{e}"));
    (graph, node, x, y)
}

/// Central differences extrapolated to step 0 (Ridders): the best value and how well it agrees with its neighbours.
fn differences(f: impl Fn(f64) -> f64, x: f64, mut h: f64) -> (f64, f64) {
    let mut best = (f64::NAN, f64::INFINITY);
    let mut row: Vec<f64> = Vec::new();
    for _ in 0..10 {
        let mut next = vec![(f(x + h) - f(x - h)) / (2.0 * h)];
        let mut factor = 1.0;
        for (k, before) in row.iter().enumerate() {
            factor *= 1.96;
            next.push((next[k] * factor - before) / (factor - 1.0));
            let error = (next[k + 1] - next[k]).abs().max((next[k + 1] - before).abs());
            if error < best.1 {
                best = (next[k + 1], error);
            }
        }
        row = next;
        h /= 1.4;
    }
    best
}

#[test]
fn every_function_has_its_derivative_to_1e_9() {
    let table: [(&str, &[f64]); 34] = [
        ("sin(x)", &[-2.0, 0.3, 4.0]),
        ("cos(x)", &[-2.0, 0.3, 4.0]),
        ("tan(x)", &[-1.0, 0.3, 2.5]),
        ("asin(x)", &[-0.7, 0.0, 0.6]),
        ("acos(x)", &[-0.7, 0.0, 0.6]),
        ("atan(x)", &[-3.0, 0.2, 5.0]),
        ("sinh(x)", &[-1.5, 0.2, 2.0]),
        ("cosh(x)", &[-1.5, 0.2, 2.0]),
        ("tanh(x)", &[-1.5, 0.2, 2.0]),
        ("exp(x)", &[-3.0, 0.0, 2.0]),
        ("ln(x)", &[0.5, 1.0, 7.0]),
        ("sqrt(x)", &[0.5, 1.0, 7.0]),
        ("cbrt(x)", &[-2.0, 0.5, 7.0]),
        ("erf(x)", &[-1.0, 0.0, 1.5]),
        ("abs(x)", &[-2.0, 3.0]),
        ("sign(x)*x^2", &[-2.0, 3.0]),
        ("step(x)*x^2", &[-2.0, 3.0]),
        ("min(x^2, x)", &[-1.0, 0.5, 2.0]),
        ("max(x^2, x)", &[-1.0, 0.5, 2.0]),
        ("atan2(x, 2)", &[-1.0, 0.5]),
        ("atan2(sin(x), x + 3)", &[-1.0, 0.5]),
        ("1/x", &[-1.0, 0.5]),
        ("x/(1 + x^2)", &[-1.0, 0.5]),
        ("(x + 1)/(x - 4)", &[-1.0, 0.5]),
        ("x^2", &[-1.0, 0.5]),
        ("x^3 - 2*x", &[-1.0, 0.5]),
        ("x^-2", &[-1.0, 0.8]),
        ("x^2.5", &[0.6, 3.0]),
        ("2^x", &[-1.0, 0.5]),
        ("10^x", &[-1.0, 0.5]),
        ("0.3^x", &[-1.0, 0.5]),
        ("x^x", &[0.6, 2.0]),
        ("(x^2 + 1)^sin(x)", &[-1.0, 0.5]),
        ("x*(x^2 - 1)*exp(-x^2)", &[-1.0, 0.5]),
    ];
    for (text, points) in table {
        let (mut graph, node, x, _) = parsed(text);
        let slope = graph.derivative(node, x);
        for at in points {
            let got = graph.eval(slope, &[(x, *at)]);
            let (expected, error) = differences(|x0| graph.eval(node, &[(x, x0)]), *at, 0.1);
            assert!(error < 1e-9, "{text} at {at}: the differences agree to {error} only");
            assert!((got - expected).abs() < 1e-9 * expected.abs().max(1.0), "{text} at {at}: {got}, not {expected}");
        }
    }
}

#[test]
fn derivatives_of_polynomials_are_the_expected_nodes() {
    let (mut graph, node, x, y) = parsed("x*(x^2 - 1)");
    let slope = graph.derivative(node, x);
    assert!((graph.eval(slope, &[(x, 0.7)]) - (3.0 * 0.49 - 1.0)).abs() < 1e-15);
    let zero = graph.derivative(node, y);
    assert_eq!(graph.constant(zero), Some(0.0));
    let (mut graph, node, x, y) = parsed("3*x*y^2");
    let dx = graph.derivative(node, x);
    let dxy = graph.derivative(dx, y);
    let dyx = graph.derivative(node, y);
    let dyx = graph.derivative(dyx, x);
    for (a, b) in [(0.3, 2.0), (-1.0, 0.7)] {
        assert_eq!(graph.eval(dxy, &[(x, a), (y, b)]), 6.0 * b);
        assert_eq!(graph.eval(dyx, &[(x, a), (y, b)]), 6.0 * b);
    }
}

/// The n-th derivative in x.
fn repeated(graph: &mut Graph, node: NodeId, x: Variable, n: usize) -> NodeId {
    (0..n).fold(node, |node, _| graph.derivative(node, x))
}

#[test]
fn second_and_fourth_derivatives_of_fast_waves_equal_formulas_to_1e_12_of_their_size() {
    let points: Vec<f64> = (0..50).map(|i| -1.0 + f64::from(i) * 0.0413).collect();
    // sin(a x) cos(b x) = (sin(p x) + sin(q x)) / 2 with p = a + b, q = a - b
    let (mut graph, node, x, _) = parsed("sin(6*x)*cos(100*x)");
    let [d2, d4] = [2, 4].map(|n| repeated(&mut graph, node, x, n));
    let (p, q) = (106.0f64, -94.0f64);
    for at in &points {
        let exact2 = -(p * p * (p * at).sin() + q * q * (q * at).sin()) / 2.0;
        let exact4 = (p.powi(4) * (p * at).sin() + q.powi(4) * (q * at).sin()) / 2.0;
        assert!((graph.eval(d2, &[(x, *at)]) - exact2).abs() < 1e-12 * p * p, "{at}");
        assert!((graph.eval(d4, &[(x, *at)]) - exact4).abs() < 1e-12 * p.powi(4), "{at}");
    }
    // (x sin k x)'' = 2 k cos k x - k^2 x sin k x; '''' = -4 k^3 cos k x + k^4 x sin k x
    let (mut graph, node, x, _) = parsed("x*sin(200*x)");
    let [d2, d4] = [2, 4].map(|n| repeated(&mut graph, node, x, n));
    let k = 200.0f64;
    for at in &points {
        let (s, c) = (k * at).sin_cos();
        let exact2 = 2.0 * k * c - k * k * at * s;
        let exact4 = -4.0 * k.powi(3) * c + k.powi(4) * at * s;
        assert!((graph.eval(d2, &[(x, *at)]) - exact2).abs() < 1e-12 * k * k, "{at}");
        assert!((graph.eval(d4, &[(x, *at)]) - exact4).abs() < 1e-12 * k.powi(4), "{at}");
    }
}

#[test]
fn the_laplacian_of_a_separable_wave_is_its_eigenvalue() {
    let (mut graph, node, x, y) = parsed("sin(3*pi*x)*sin(4*pi*y)");
    let (xx, yy) = (repeated(&mut graph, node, x, 2), repeated(&mut graph, node, y, 2));
    let laplacian = graph.add(xx, yy);
    let at = [(x, 0.3), (y, 0.8)];
    let expected = -25.0 * PI * PI * graph.eval(node, &at);
    assert!((graph.eval(laplacian, &at) - expected).abs() < 1e-11);
}

/// Expressions that are smooth and of moderate size wherever x and y are.
fn smooth() -> impl Strategy<Value = String> {
    let leaf =
        prop_oneof![Just("x".to_owned()), Just("y".to_owned()), (-2.0..2.0f64).prop_map(|c| format!("({c:.3})")),];
    leaf.prop_recursive(5, 24, 2, |inner| {
        let one = |format: fn(&str) -> String| inner.clone().prop_map(move |a| format(&a));
        let two =
            |format: fn(&str, &str) -> String| (inner.clone(), inner.clone()).prop_map(move |(a, b)| format(&a, &b));
        prop_oneof![
            two(|a, b| format!("({a} + {b})")),
            two(|a, b| format!("({a} - {b})")),
            two(|a, b| format!("tanh({a}) * cos({b})")),
            two(|a, b| format!("{a} / (2 + sin({b}))")),
            two(|a, b| format!("(1.5 + cos({a}))^tanh({b})")),
            two(|a, b| format!("atan2(2 + sin({a}), cos({b}))")),
            one(|a| format!("-({a})")),
            one(|a| format!("sin({a})")),
            one(|a| format!("exp(-({a})^2)")),
            one(|a| format!("sqrt(1 + ({a})^2)")),
            one(|a| format!("ln(2 + cos({a}))")),
            one(|a| format!("atan({a})")),
            one(|a| format!("erf({a})")),
            one(|a| format!("tanh({a})^3")),
            one(|a| format!("(2 + sin({a}))^-2")),
            one(|a| format!("cosh(tanh({a})) - sinh(sin({a}))")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn random_expressions_have_the_slope_of_their_differences(text in smooth(), a in -1.0..1.0f64, b in -1.0..1.0f64) {
        let (mut graph, node, x, y) = parsed(&text);
        let slope = graph.derivative(node, x);
        let got = graph.eval(slope, &[(x, a), (y, b)]);
        let (expected, error) = differences(|x0| graph.eval(node, &[(x, x0), (y, b)]), a, 0.02);
        // Where the differences themselves do not settle they prove nothing.
        prop_assume!(error < 1e-6 * expected.abs().max(1.0));
        let tolerance = (100.0 * error).max(1e-8 * expected.abs().max(1.0));
        prop_assert!((got - expected).abs() < tolerance, "{text}: {got}, not {expected} +- {error}");
    }

    #[test]
    fn a_program_gives_what_the_graph_gives(text in smooth(), a in -1.0..1.0f64, b in -1.0..1.0f64) {
        let (mut graph, node, x, y) = parsed(&text);
        let slope = graph.derivative(node, y);
        let program = compile(&graph, &[slope, node], &[y, x]).unwrap();
        let at = [(x, a), (y, b)];
        prop_assert_eq!(program.at(&[b, a]), [graph.eval(slope, &at), graph.eval(node, &at)]);
    }
}
