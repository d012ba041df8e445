//! Tests of parsing, simplification and compilation.

use super::*;
use convoke_kernels::pointwise::Op;
use std::f64::consts::{E, PI};

/// A graph with the symbols x, y, u and u_xx.
fn graph() -> (Graph, Names) {
    let (mut graph, mut names) = (Graph::new(), Names::new());
    for name in ["x", "y", "u", "u_xx"] {
        let symbol = graph.symbol(name);
        let node = graph.variable(symbol);
        names.insert(name, node);
    }
    (graph, names)
}

/// The value at x = 3, y = 2, u = 0.5.
#[track_caller]
fn value(text: &str) -> f64 {
    let (mut graph, names) = graph();
    let node = graph.parse(text, &names).unwrap_or_else(|e| panic!("{e}"));
    let values = [("x", 3.0), ("y", 2.0), ("u", 0.5)].map(|(name, x)| (graph.symbol(name), x));
    graph.eval(node, &values)
}

#[test]
fn precedence_and_grouping() {
    let (x, y, u) = (3.0f64, 2.0f64, 0.5f64);
    let table = [
        ("1 + 2*3", 7.0),
        ("(1 + 2)*3", 9.0),
        ("8 - 3 - 2", 3.0),
        ("16 / 4 / 2", 2.0),
        ("8 / 4 * 2", 4.0),
        ("2^3^2", 512.0),
        ("(2^3)^2", 64.0),
        ("-2^2", -4.0),
        ("(-2)^2", 4.0),
        ("2^-1", 0.5),
        ("2^-1^2", 0.5),
        ("-x^2", -9.0),
        ("x^-y", 1.0 / 9.0),
        ("2*-x", -6.0),
        ("2--3", 5.0),
        ("- - -x", -3.0),
        ("+x", 3.0),
        ("x - y*u", x - y * u),
        ("x/y*u", x / y * u),
        ("x^2*y", 18.0),
        ("2*x^2", 18.0),
        ("-x*y", -6.0),
        ("sin(x)^2 + cos(x)^2", x.sin() * x.sin() + x.cos() * x.cos()),
        ("x*(y + u)/(x - u)", x * (y + u) / (x - u)),
    ];
    for (text, expected) in table {
        assert!((value(text) - expected).abs() <= 1e-15 * expected.abs(), "{text}: {} not {expected}", value(text));
    }
}

#[test]
fn numbers_names_and_every_function() {
    let (x, y, u) = (3.0f64, 2.0f64, 0.5f64);
    let table = [
        ("1", 1.0),
        ("1.5", 1.5),
        ("1.", 1.0),
        (".5", 0.5),
        ("2e-3", 2e-3),
        ("2.5E+3", 2500.0),
        ("2e3", 2000.0),
        ("pi", PI),
        ("e", E),
        ("2*e", 2.0 * E),
        ("\tu\n *\r\n x ", 1.5),
        ("sin(x)", x.sin()),
        ("cos(x)", x.cos()),
        ("tan(x)", x.tan()),
        ("asin(u)", u.asin()),
        ("acos(u)", u.acos()),
        ("atan(x)", x.atan()),
        ("atan2(x, y)", x.atan2(y)),
        ("sinh(x)", x.sinh()),
        ("cosh(x)", x.cosh()),
        ("tanh(x)", x.tanh()),
        ("exp(x)", x.exp()),
        ("e^x", x.exp()),
        ("ln(x)", x.ln()),
        ("sqrt(x)", x.sqrt()),
        ("x^0.5", x.sqrt()),
        ("cbrt(x)", x.cbrt()),
        ("abs(-x)", x),
        ("sign(-x)", -1.0),
        ("step(u - x)", 0.0),
        ("step(u - u)", 1.0),
        ("min(x, y)", y),
        ("max(x, y)", x),
        ("pow(x, y)", 9.0),
        ("x^u", x.powf(u)),
        ("x^100", x.powi(100)),
    ];
    for (text, expected) in table {
        let close = (value(text) - expected).abs() <= 4e-16 * expected.abs();
        assert!(close, "{text}: {} not {expected}", value(text));
    }
    // Abramowitz and Stegun, table 7.1
    assert!((value("erf(u)") - 0.520_499_877_8).abs() < 1e-10);
}

/// The error of a text, as column and message.
fn error(text: &str) -> (usize, String) {
    let (mut graph, names) = graph();
    let error = graph.parse(text, &names).expect_err(text);
    assert_eq!(error.text, text);
    (error.column, error.problem.to_string())
}

#[test]
fn each_error_has_its_column_and_says_what_was_expected() {
    let table = [
        ("", 1, "expected a number, a name or `(`, found the end"),
        ("   ", 4, "expected a number, a name or `(`, found the end"),
        ("x +", 4, "expected a number, a name or `(`, found the end"),
        ("x + * y", 5, "expected a number, a name or `(`, found `*`"),
        ("x ** 2", 4, "expected a number, a name or `(`, found `*` (a power is written with ^)"),
        ("* x", 1, "expected a number, a name or `(`, found `*`"),
        ("(x + y", 7, "expected an operator or `)`, found the end"),
        ("x + y)", 6, "expected an operator or the end, found `)`"),
        ("()", 2, "expected a number, a name or `(`, found `)`"),
        ("2x", 2, "expected an operator or the end, found `x` (a product is written with *)"),
        ("2 (x)", 3, "expected an operator or the end, found `(` (a product is written with *)"),
        ("(x)(y)", 4, "expected an operator or the end, found `(` (a product is written with *)"),
        ("x y", 3, "expected an operator or the end, found `y` (a product is written with *)"),
        ("1.2.3", 4, "expected an operator or the end, found `.3` (a product is written with *)"),
        ("3e", 2, "expected an operator or the end, found `e` (a product is written with *)"),
        ("1e999", 1, "the number 1e999 is too large"),
        ("x = 1", 3, "expected an operator or the end, found `=` (an expression has no equals sign)"),
        ("x $ y", 3, "expected an operator or the end, found `$`"),
        ("x[0]", 2, "expected an operator or the end, found `[`"),
        ("\"x\"", 1, "expected a number, a name or `(`, found `\"`"),
        ("x; y", 2, "expected an operator or the end, found `;`"),
        ("1 + foo", 5, "unknown name `foo`"),
        ("1 + X", 5, "unknown name `X`; did you mean `x`?"),
        ("u_xy", 1, "unknown name `u_xy`; did you mean `u_xx`?"),
        ("1 + sine(x)", 5, "unknown name `sine`; did you mean `sin`?"),
        ("sqr(x)", 1, "unknown name `sqr`; did you mean `sqrt`?"),
        ("system(x)", 1, "unknown name `system`"),
        ("sin x", 1, "`sin` is a function: write sin(...)"),
        ("x + sin", 5, "`sin` is a function: write sin(...)"),
        ("sin()", 1, "`sin` takes 1 argument, not 0"),
        ("1 + sin(x, y)", 5, "`sin` takes 1 argument, not 2"),
        ("min(x)", 1, "`min` takes 2 arguments, not 1"),
        ("atan2(x, y, u)", 1, "`atan2` takes 2 arguments, not 3"),
        ("min(x,)", 7, "expected a number, a name or `(`, found `)`"),
        ("min(x y)", 7, "expected an operator, `,` or `)`, found `y` (a product is written with *)"),
        ("sin(x", 6, "expected an operator, `,` or `)`, found the end"),
        ("(x, y)", 3, "expected an operator or `)`, found `,`"),
        ("u(x)", 1, "`u` is no function; a product is written with *"),
        ("2*pi(x)", 3, "`pi` is no function; a product is written with *"),
        ("1 + log(x)", 5, "`log` is ambiguous: the natural logarithm is ln(x), that to base 10 ln(x) / ln(10)"),
        ("x^", 3, "expected a number, a name or `(`, found the end"),
        ("x \u{2212} y", 3, "expected an operator or the end, found `\u{2212}` (a minus is written with -)"),
        ("x\u{b2}", 2, "expected an operator or the end, found `\u{b2}` (a power is written with ^)"),
        ("2\u{d7}x", 2, "expected an operator or the end, found `\u{d7}` (a product is written with *)"),
        ("\u{394}u", 1, "expected a number, a name or `(`, found `\u{394}`"),
        ("x*\u{b2} + 1", 3, "expected a number, a name or `(`, found `\u{b2}` (a power is written with ^)"),
    ];
    for (text, column, message) in table {
        assert_eq!(error(text), (column, message.to_owned()), "{text}");
    }
}

#[test]
fn an_error_shows_the_text_and_a_caret() {
    let (mut graph, names) = graph();
    let error = graph.parse("u*(u^2 - )", &names).unwrap_err();
    let expected = "column 10: expected a number, a name or `(`, found `)`\n  u*(u^2 - )\n           ^";
    assert_eq!(error.to_string(), expected);
    let whole = "f = u*(u^2 - )";
    let error = error.within(whole, 4);
    assert_eq!(error.column, 14);
    assert!(error.to_string().ends_with("  f = u*(u^2 - )\n               ^"), "{error}");
    // A long text is shown around the place, line breaks as blanks.
    let text = format!("{}\n? + {}", "x + ".repeat(100), "x + ".repeat(100));
    let shown = graph.parse(&text, &names).unwrap_err().to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 3, "{shown}");
    assert_eq!(lines[1].chars().nth(lines[2].chars().count() - 1), Some('?'), "{shown}");
    assert!(lines[1].chars().count() < 120, "{shown}");
}

#[test]
fn depth_and_length_are_bounded_and_long_chains_are_not_deep() {
    let (mut graph, names) = graph();
    let nested = |n: usize| format!("{}x{}", "(".repeat(n), ")".repeat(n));
    assert!(graph.parse(&nested(MAX_DEPTH - 1), &names).is_ok());
    for text in [nested(MAX_DEPTH), nested(40_000), "-".repeat(50_000), "x^".repeat(40_000), "sin(".repeat(20_000)] {
        let error = graph.parse(&text, &names).unwrap_err();
        assert_eq!(error.problem, Problem::TooDeep(MAX_DEPTH));
    }
    assert_eq!(graph.parse(&nested(MAX_DEPTH), &names).unwrap_err().column, MAX_DEPTH + 1);
    let long = "x+".repeat(MAX_BYTES / 2) + "x";
    let problem = graph.parse(&long, &names).unwrap_err().problem;
    assert_eq!(problem, Problem::TooLong { bytes: MAX_BYTES + 1, limit: MAX_BYTES });
    // 30 000 nodes one below the other: nothing recurses over them.
    let chain = "x*y+".repeat(15_000) + "x";
    let (node, x) = (graph.parse(&chain, &names).unwrap(), graph.symbol("x"));
    let slope = graph.derivative(node, x);
    let y = graph.symbol("y");
    assert!((graph.eval(slope, &[(x, 1.0), (y, 2.0)]) - 30_001.0).abs() < 1e-6);
    let two = graph.number(2.0);
    assert_eq!(graph.substitute(node, &[(y, two)]), graph.substitute(node, &[(y, two)]));
    assert!(compile(&graph, &[node], &[x, y]).is_ok());
}

#[test]
fn equal_expressions_are_one_node() {
    let (mut graph, names) = graph();
    let pairs = [
        ("x + y", "y + x"),
        ("x*y", "y*x"),
        ("x - x", "0"),
        ("0*x", "0"),
        ("1*x", "x"),
        ("x + 0", "x"),
        ("x^1", "x"),
        ("x^0", "1"),
        ("x*x", "x^2"),
        ("x + x", "2*x"),
        ("2*(3*x)", "6*x"),
        ("x*2*3", "6*x"),
        ("-(-x)", "x"),
        ("-x*y", "-(x*y)"),
        ("(-x)*(-y)", "x*y"),
        ("(-x)^2", "x^2"),
        ("(x^2)^3", "x^6"),
        ("x - (-y)", "x + y"),
        ("-(x - y)", "y - x"),
        ("-x/y", "-(x/y)"),
        ("x/1", "x"),
        ("abs(-x)", "abs(x)"),
        ("min(x, y)", "min(y, x)"),
        ("sin(x + y)", "sin(y + x)"),
        ("2*3 + 4", "10"),
        ("e^x", "exp(x)"),
        ("x^(1/2)", "sqrt(x)"),
        ("cos(0)", "1"),
        ("-0", "0"),
    ];
    for (a, b) in pairs {
        assert_eq!(graph.parse(a, &names).unwrap(), graph.parse(b, &names).unwrap(), "{a} and {b}");
    }
    let different = [("x - y", "y - x"), ("x/y", "y/x"), ("x^y", "y^x"), ("atan2(x, y)", "atan2(y, x)")];
    for (a, b) in different {
        assert_ne!(graph.parse(a, &names).unwrap(), graph.parse(b, &names).unwrap(), "{a} and {b}");
    }
}

#[test]
fn definitions_stand_for_their_expressions() {
    let (mut graph, mut names) = graph();
    let k = graph.parse("100", &names).unwrap();
    names.insert("k", k);
    let wave = graph.parse("sin(k*x)", &names).unwrap();
    names.insert("wave", wave);
    let node = graph.parse("wave^2 + k", &names).unwrap();
    assert_eq!(node, graph.parse("sin(100*x)^2 + 100", &names).unwrap());
    let (x, y) = (graph.symbol("x"), graph.symbol("y"));
    assert_eq!(graph.variables(node), [x].into());
    assert_eq!(graph.constant(k), Some(100.0));
    assert_eq!(graph.constant(node), None);
    // x becomes y + 1, and y at the same time x.
    let (y_node, x_node) = (graph.variable(y), graph.variable(x));
    let one = graph.number(1.0);
    let y_plus_1 = graph.add(y_node, one);
    let before = graph.parse("x^2 - y", &names).unwrap();
    let after = graph.substitute(before, &[(x, y_plus_1), (y, x_node)]);
    assert_eq!(after, graph.parse("(y + 1)^2 - x", &names).unwrap());
    assert!(graph.eval(before, &[(x, 1.0)]).is_nan());
    assert!(is_name("u_xx") && is_name("a1") && !is_name("1a") && !is_name("A") && !is_name("") && !is_name("_a"));
    assert!(is_reserved("sin") && is_reserved("e") && is_reserved("log") && !is_reserved("u"));
}

#[test]
fn a_program_shares_equal_parts_and_holds_nothing_else() {
    let (mut graph, names) = graph();
    let residual = graph.parse("sin(x*y)*u + sin(x*y)", &names).unwrap();
    graph.parse("exp(u) + tan(x)", &names).unwrap();
    let [x, y, u] = ["x", "y", "u"].map(|n| graph.symbol(n));
    let slope = graph.derivative(residual, u);
    let program = compile(&graph, &[residual, slope], &[u, y, x]).unwrap();
    let count = |f: fn(&Op) -> bool| program.ops().iter().filter(|op| f(op)).count();
    assert_eq!(count(|op| matches!(op, Op::Unary(..))), 1, "{program:?}");
    assert_eq!(program.ops().len(), 7, "{program:?}");
    let (s, inputs) = ((2.0f64 * 3.0).sin(), [0.5, 2.0, 3.0]);
    assert_eq!(program.at(&inputs), [s * 0.5 + s, s]);
    let missing = compile(&graph, &[residual], &[x, y]).unwrap_err();
    assert_eq!(missing, MissingInput { name: "u".into() });
    // The same output twice, an input as an output, a number as an output.
    let (x_node, two) = (graph.variable(x), graph.number(2.0));
    let program = compile(&graph, &[x_node, two, x_node], &[x]).unwrap();
    assert_eq!(program.at(&[5.0]), [5.0, 2.0, 5.0]);
}
