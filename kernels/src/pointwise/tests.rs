//! Tests of programs: the fast path against the reference, hoisting, and refusals.

use super::*;
use crate::Philox;
use plan::Instruction;
use proptest::prelude::*;

fn normal(len: usize, stream: u64) -> Vec<f64> {
    let p = Philox::new(11, stream);
    (0..len as u64).map(|i| p.normal(i)).collect()
}

fn buffer(values: &[f64]) -> Buffer<f64> {
    Buffer::from_vec(&Device::cpu(), values.to_vec()).unwrap()
}

/// Inputs that a test can use twice.
#[derive(Clone, Debug)]
enum Given {
    Field(Vec<f64>),
    Axis(Vec<f64>, usize),
    Scalar(f64),
}

fn fast(program: &Program, n_points: usize, given: &[Given]) -> Vec<Vec<f64>> {
    let mut buffers: Vec<Buffer<f64>> = given
        .iter()
        .map(|g| match g {
            Given::Field(v) | Given::Axis(v, _) => buffer(v),
            Given::Scalar(_) => buffer(&[]),
        })
        .collect();
    let mut inputs: Vec<Input<'_>> = given
        .iter()
        .zip(&mut buffers)
        .map(|(g, b)| match g {
            Given::Field(_) => Input::Field(b),
            Given::Axis(_, stride) => Input::Axis { values: b, stride: *stride },
            Given::Scalar(x) => Input::Scalar(*x),
        })
        .collect();
    let mut outputs: Vec<Buffer<f64>> = (0..program.n_outputs()).map(|_| buffer(&vec![f64::NAN; n_points])).collect();
    let mut out: Vec<&mut Buffer<f64>> = outputs.iter_mut().collect();
    program.run(&Device::cpu(), n_points, &mut inputs, &mut out).unwrap();
    outputs.into_iter().map(Buffer::into_vec).collect()
}

fn plain(program: &Program, n_points: usize, given: &[Given]) -> Vec<Vec<f64>> {
    let values: Vec<Values<'_>> = given
        .iter()
        .map(|g| match g {
            Given::Field(v) => Values::Field(v),
            Given::Axis(values, stride) => Values::Axis { values, stride: *stride },
            Given::Scalar(x) => Values::Scalar(*x),
        })
        .collect();
    let points: Vec<Vec<f64>> = (0..n_points).map(|i| reference::steps(&program.ops, &values, i)).collect();
    program.outputs.iter().map(|o| points.iter().map(|p| p[*o]).collect()).collect()
}

#[track_caller]
fn assert_same(got: &[Vec<f64>], expected: &[Vec<f64>], tolerance: f64) {
    for (got, expected) in got.iter().zip(expected) {
        assert_eq!(got.len(), expected.len());
        for (i, (a, b)) in got.iter().zip(expected).enumerate() {
            let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * b.abs();
            assert!(same, "point {i}: {a}, the reference has {b}");
        }
    }
}

/// A random step after `i` others; powers have small exponents so that only rounding separates the two paths.
fn any_op(i: usize, n_inputs: usize) -> BoxedStrategy<Op> {
    let leaf = prop_oneof![(-3.0..3.0f64).prop_map(Op::Constant), (0..n_inputs).prop_map(Op::Input)];
    if i == 0 {
        return leaf.boxed();
    }
    prop_oneof![
        1 => leaf,
        2 => (0..Unary::ALL.len(), 0..i).prop_map(|(f, a)| Op::Unary(Unary::ALL[f], a)),
        3 => (0..Binary::ALL.len(), 0..i, 0..i).prop_map(|(f, a, b)| Op::Binary(Binary::ALL[f], a, b)),
    ]
    .boxed()
}

fn any_program(n_inputs: usize) -> impl Strategy<Value = Program> {
    (1usize..40, proptest::collection::vec(any::<prop::sample::Index>(), 1..5)).prop_flat_map(move |(n, outputs)| {
        let ops: Vec<_> = (0..n).map(|i| any_op(i, n_inputs)).collect();
        (ops, Just(outputs)).prop_map(move |(ops, outputs)| {
            let outputs = outputs.iter().map(|o| o.index(ops.len())).collect();
            Program::new(n_inputs, ops, outputs).unwrap()
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn random_programs_equal_the_reference_bit_for_bit(program in any_program(5), n in 1usize..700) {
        let given = [
            Given::Field(normal(n, 0)),
            Given::Axis(normal(7, 1), 1),
            Given::Axis(normal(5, 2), 7),
            Given::Axis(normal(3, 3), 35),
            Given::Scalar(0.7),
        ];
        assert_same(&fast(&program, n, &given), &plain(&program, n, &given), 0.0);
    }
}

#[test]
fn an_axis_follows_its_stride_in_3_d_across_blocks_and_portions() {
    let shape = [11, 37, 61];
    let n: usize = shape.iter().product();
    assert!(n > 64 * 256, "more than one portion");
    let axes = [0, 1, 2].map(|d| normal(shape[d], d as u64));
    let [z, y, x] = [0, 1, 2].map(|d| Given::Axis(axes[d].clone(), shape[d + 1..].iter().product()));
    let ops =
        vec![Op::Input(0), Op::Input(1), Op::Input(2), Op::Binary(Binary::Mul, 0, 1), Op::Binary(Binary::Sub, 3, 2)];
    let program = Program::new(3, ops, vec![4, 1, 2]).unwrap();
    let got = fast(&program, n, &[z, y, x]);
    let points = got[0].iter().zip(&got[1]).zip(&got[2]);
    for (i, ((f, got_y), got_x)) in points.enumerate() {
        let [z, y, x] = [axes[0][i / (37 * 61)], axes[1][i / 61 % 37], axes[2][i % 61]];
        assert_eq!((*f, *got_y, *got_x), (z * y - x, y, x));
    }
}

#[test]
fn powers_equal_powf_to_1e_13() {
    let mut ops = vec![Op::Input(0)];
    let exponents = [0, 1, 2, 3, 7, 31, 64, 65, 200, -1, -2, -5, -64, i32::MIN, i32::MAX];
    ops.extend(exponents.map(|n| Op::PowI(0, n)));
    let program = Program::new(1, ops, (1..=exponents.len()).collect()).unwrap();
    let x = vec![1.5, -1.25, 0.3, 0.0, 1.0, -1.0, 1.0 + 1e-9];
    let given = [Given::Field(x.clone())];
    assert_same(&fast(&program, x.len(), &given), &plain(&program, x.len(), &given), 1e-13);
    assert_eq!(program.at(&[-2.0])[..4], [1.0, -2.0, 4.0, -8.0]);
}

#[test]
fn what_one_axis_decides_is_computed_once_per_value_of_the_axis() {
    // sin(100 x) sin(100 y) u on 400 x 400
    let ops = vec![
        Op::Constant(100.0),
        Op::Input(0),
        Op::Input(1),
        Op::Binary(Binary::Mul, 0, 1),
        Op::Binary(Binary::Mul, 0, 2),
        Op::Unary(Unary::Sin, 3),
        Op::Unary(Unary::Sin, 4),
        Op::Binary(Binary::Mul, 5, 6),
        Op::Input(2),
        Op::Binary(Binary::Mul, 7, 8),
    ];
    let program = Program::new(3, ops, vec![9]).unwrap();
    let (y, x) = (Kind::Axis { len: 400, stride: 400 }, Kind::Axis { len: 400, stride: 1 });
    let plan = plan::plan(&program, &[x, y, Kind::Field], 160_000);
    assert_eq!(plan.axes.iter().map(|s| s.len).collect::<Vec<_>>(), [400, 400]);
    let sines =
        |s: &plan::Stage| s.code.iter().filter(|i| matches!(i, Instruction::Unary { f: Unary::Sin, .. })).count();
    assert_eq!(plan.axes.iter().map(sines).sum::<usize>(), 2);
    assert_eq!(sines(&plan.points), 0);
    assert_eq!(plan.points.constants, []);
}

#[test]
fn a_long_chain_takes_few_registers() {
    let mut ops = vec![Op::Input(0)];
    ops.extend((0..1000).map(|i| Op::Unary(Unary::Sin, i)));
    let program = Program::new(1, ops, vec![1000]).unwrap();
    let plan = plan::plan(&program, &[Kind::Field], 10);
    assert!(plan.points.n_registers <= 2, "{}", plan.points.n_registers);
}

#[test]
fn results_are_the_same_bits_on_1_2_and_5_threads() {
    let n = 70_001;
    let ops = vec![Op::Input(0), Op::Input(1), Op::Unary(Unary::Exp, 0), Op::Binary(Binary::Div, 2, 1)];
    let program = Program::new(2, ops, vec![3, 2]).unwrap();
    let given = [Given::Field(normal(n, 0)), Given::Axis(normal(13, 1), 3)];
    let results = [1, 2, 5].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| fast(&program, n, &given))
    });
    assert!(results.iter().all(|r| *r == results[0]));
}

#[test]
fn functions_at_their_corners() {
    let at = |f: Unary, x: f64| f.apply(x);
    assert_eq!([-2.0, 0.0, 3.0].map(|x| at(Unary::Step, x)), [0.0, 1.0, 1.0]);
    assert_eq!([-2.0, 0.0, 3.0].map(|x| at(Unary::Sign, x)), [-1.0, 0.0, 1.0]);
    assert!(at(Unary::Step, f64::NAN).is_nan() && at(Unary::Sign, f64::NAN).is_nan());
    // Abramowitz and Stegun, table 7.1
    assert!((at(Unary::Erf, 0.5) - 0.520_499_877_8).abs() < 1e-10);
    assert_eq!(at(Unary::Cbrt, -27.0), -3.0);
    // The device code knows the functions by these numbers.
    assert!(Unary::ALL.iter().enumerate().all(|(i, f)| *f as usize == i));
    assert!(Binary::ALL.iter().enumerate().all(|(i, f)| *f as usize == i));
}

#[test]
fn what_does_not_fit_is_an_error() {
    assert!(Program::new(1, vec![Op::Unary(Unary::Sin, 0)], vec![0]).is_err());
    assert!(Program::new(1, vec![Op::Input(1)], vec![0]).is_err());
    assert!(Program::new(1, vec![Op::Input(0)], vec![1]).is_err());
    let program = Program::new(1, vec![Op::Input(0)], vec![0]).unwrap();
    let d = Device::cpu();
    let (mut u, mut short, mut out) = (buffer(&[0.0; 6]), buffer(&[0.0; 5]), buffer(&[0.0; 6]));
    assert!(program.run(&d, 6, &mut [], &mut [&mut out]).is_err());
    assert!(program.run(&d, 6, &mut [Input::Field(&mut u)], &mut []).is_err());
    assert!(program.run(&d, 6, &mut [Input::Field(&mut short)], &mut [&mut out]).is_err());
    assert!(program.run(&d, 6, &mut [Input::Field(&mut u)], &mut [&mut short]).is_err());
    assert!(program.run(&d, 6, &mut [Input::Axis { values: &mut u, stride: 0 }], &mut [&mut out]).is_err());
    assert!(program.run(&d, 6, &mut [Input::Axis { values: &mut buffer(&[]), stride: 1 }], &mut [&mut out]).is_err());
    assert!(program.run(&d, 0, &mut [Input::Field(&mut buffer(&[]))], &mut [&mut buffer(&[])]).is_ok());
    program.run(&d, 6, &mut [Input::Scalar(2.5)], &mut [&mut out]).unwrap();
    assert_eq!(out.host(), [2.5; 6]);
}
