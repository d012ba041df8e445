//! The device kernels under emulation (the same launches as on a GPU) against the CPU. Sizes are odd and go beyond a
//! warp, a block and the slices of a thread. Skipped, with a printed reason, where there is no g++.

#![allow(clippy::unwrap_used)]

mod common;

use common::devices;
use convoke_kernels::*;

fn random(device: &Device, len: usize, stream: u64) -> Buffer<f32> {
    let p = Philox::new(4, stream);
    Buffer::from_vec(device, (0..len as u64).map(|i| p.normal(i) as f32).collect()).unwrap()
}

#[track_caller]
fn assert_close(got: &mut Buffer<f32>, expected: &mut Buffer<f32>, tolerance: f32, what: &str) {
    let largest = expected.host().iter().fold(1e-30f32, |m, v| m.max(v.abs()));
    for (i, (a, b)) in got.host().iter().zip(expected.host()).enumerate() {
        let close = (a - b).abs() <= tolerance * largest; // false for NaN
        assert!(close, "{what}: element {i} is {a}, the CPU has {b}");
    }
}

fn geometry(n_angles: usize, n_cols: usize, col_pitch: f64, nx: usize, ny: usize) -> ParallelGeometry {
    let angles_rad = (0..n_angles).map(|i| 0.2 + 0.61 * i as f64).collect();
    ParallelGeometry { angles_rad, n_cols, col_pitch, axis_col: n_cols as f64 / 2.0 - 1.3, nx, ny }
}

#[test]
fn projectors_equal_the_cpu_to_2e_6_of_the_maximum_and_are_adjoint_to_1e_6() {
    let cpu = Device::cpu();
    for device in devices() {
        for (g, n_slices) in [
            (geometry(11, 43, 1.0, 37, 35), 9),
            (geometry(5, 30, 1.6, 41, 17), 1),
            (geometry(9, 70, 0.5, 33, 33), 3),
            (ParallelGeometry::centred(4, 34), 2),
        ] {
            for footprint in [Footprint::Linear, Footprint::Joseph] {
                let what = format!("{device:?} {footprint:?} {} columns", g.n_cols);
                let (v, s) = (n_slices * g.slice_len(), n_slices * g.sinogram_len());
                let on = |d: &Device| Projector::new(d, g.clone(), footprint).unwrap();
                let (host, dev) = (on(&cpu), on(&device));
                let (mut x, mut y) = (random(&device, v, 0), random(&device, s, 1));
                let (mut ax, mut ax_cpu) = (Buffer::zeros(&device, s).unwrap(), Buffer::zeros(&cpu, s).unwrap());
                let (mut aty, mut aty_cpu) = (Buffer::zeros(&device, v).unwrap(), Buffer::zeros(&cpu, v).unwrap());
                dev.forward(&mut x, &mut ax).unwrap();
                dev.back(&mut y, &mut aty).unwrap();
                let dot =
                    |a: &mut Buffer<f32>, b: &mut Buffer<f32>| Slices::new(&device, 1).unwrap().dot(a, b).unwrap()[0];
                let norm2 = |a: &mut Buffer<f32>| Slices::new(&device, 1).unwrap().norm2(a).unwrap()[0];
                let norms = (norm2(&mut ax) * norm2(&mut y)).sqrt();
                let mismatch = (dot(&mut ax, &mut y) - dot(&mut x, &mut aty)).abs() / norms;
                assert!(mismatch < 1e-6, "{what}: {mismatch}");
                host.forward(&mut x, &mut ax_cpu).unwrap();
                host.back(&mut y, &mut aty_cpu).unwrap();
                assert_close(&mut ax, &mut ax_cpu, 2e-6, &what);
                assert_close(&mut aty, &mut aty_cpu, 2e-6, &what);
            }
        }
    }
}

#[test]
fn subsets_and_weights_equal_the_cpu_and_leave_other_rows() {
    let cpu = Device::cpu();
    let g = geometry(8, 33, 1.0, 33, 31);
    for device in devices() {
        let on = |d: &Device| Projector::new(d, g.clone(), Footprint::Joseph).unwrap().subset(&[6, 1, 2]).unwrap();
        let (host, dev) = (on(&cpu), on(&device));
        let mut x = random(&device, 3 * g.slice_len(), 0);
        let (mut y, mut y_cpu) = (random(&device, 3 * g.sinogram_len(), 1), random(&cpu, 3 * g.sinogram_len(), 1));
        dev.forward(&mut x, &mut y).unwrap();
        host.forward(&mut x, &mut y_cpu).unwrap();
        assert_close(&mut y, &mut y_cpu, 2e-6, "subset forward");
        let (mut back, mut back_cpu) = (x.duplicate().unwrap(), x.duplicate().unwrap());
        dev.back_weighted(&[0.5, -1.0, 2.0], &mut y, &mut back).unwrap();
        host.back_weighted(&[0.5, -1.0, 2.0], &mut y_cpu, &mut back_cpu).unwrap();
        assert_close(&mut back, &mut back_cpu, 2e-6, "weighted back");
    }
}

#[test]
fn the_ramp_filter_equals_the_cpu_to_1e_6_of_the_maximum() {
    for device in devices() {
        for (n_cols, n_angles, padding) in
            [(1, 1, Padding::Zero), (45, 7, Padding::Zero), (100, 4, Padding::Edge), (700, 3, Padding::Zero)]
        {
            let params = RampParams { window: FilterWindow::Hann, padding, ..RampParams::new(n_cols, 0.7) };
            let (mut a, mut b) =
                (random(&device, 3 * n_angles * n_cols, 2), random(&Device::cpu(), 3 * n_angles * n_cols, 2));
            RampFilter::new(&device, params).unwrap().apply(n_angles, &mut a).unwrap();
            RampFilter::new(&Device::cpu(), params).unwrap().apply(n_angles, &mut b).unwrap();
            assert_close(&mut a, &mut b, 1e-6, &format!("{n_cols} columns"));
        }
    }
}

#[test]
fn slice_operations_equal_the_cpu_to_rounding() {
    type Operation = fn(&Slices, &mut Buffer<f32>, &mut Buffer<f32>, &mut Buffer<f32>) -> Result<()>;
    let operations: [(&str, Operation); 9] = [
        ("axpy", |s, x, _, y| s.axpy(&[0.5, -2.0, 3.0], x, y)),
        ("xpby", |s, x, _, y| s.xpby(x, &[0.5, -2.0, 3.0], y)),
        ("scale", |s, _, _, y| s.scale(&[0.5, -2.0, 3.0], y)),
        ("fill", |s, _, _, y| s.fill(1.5, y)),
        ("copy", |s, x, _, y| s.copy(x, y)),
        ("clamp_min", |s, _, _, y| s.clamp_min(-0.5, y)),
        ("multiply", |s, x, _, y| s.multiply(x, y)),
        ("subtract", |s, x, z, y| s.subtract(x, z, y)),
        ("ratio", |s, x, z, y| s.ratio(x, z, y)),
    ];
    let len = 8192 + 301;
    for device in devices() {
        let (on_device, on_cpu) = (Slices::new(&device, 3).unwrap(), Slices::new(&Device::cpu(), 3).unwrap());
        let arrays = || [0, 1, 2].map(|stream| random(&device, 3 * len, stream));
        for (name, operation) in operations {
            let ([mut x, mut z, mut y], [mut x2, mut z2, mut y2]) = (arrays(), arrays());
            operation(&on_device, &mut x, &mut z, &mut y).unwrap();
            operation(&on_cpu, &mut x2, &mut z2, &mut y2).unwrap();
            assert_close(&mut y, &mut y2, 1e-6, name);
        }
        let [mut x, mut y, mut w] = [random(&device, 3 * len, 0), random(&device, 3 * len, 1), random(&device, len, 2)];
        let mut y2 = y.duplicate().unwrap();
        on_device.multiply(&mut w, &mut y).unwrap();
        on_cpu.multiply(&mut w, &mut y2).unwrap();
        assert_close(&mut y, &mut y2, 1e-6, "multiply by one slice");
        let sums = [on_device.dot(&mut x, &mut y).unwrap(), on_device.norm2(&mut x).unwrap()].concat();
        let sums_cpu = [on_cpu.dot(&mut x, &mut y).unwrap(), on_cpu.norm2(&mut x).unwrap()].concat();
        for (a, b) in sums.iter().zip(&sums_cpu) {
            assert!((a - b).abs() < 1e-11 * len as f64, "{a} {b}");
        }
    }
}

#[test]
fn programs_equal_the_cpu_to_1e_13_with_every_operation_on_fields_axes_and_numbers() {
    use convoke_kernels::pointwise::{Binary, Input, Op, Program, Unary};
    let shape = [5, 7, 41];
    let n: usize = shape.iter().product();
    // Inputs: a field, the axes z, y, x, a number. tanh keeps the arguments moderate.
    let mut ops: Vec<Op> = (0..5).map(Op::Input).collect();
    ops.extend([Op::Binary(Binary::Mul, 1, 2), Op::Binary(Binary::Add, 5, 3), Op::Binary(Binary::Sub, 6, 4)]);
    ops.extend([Op::Unary(Unary::Tanh, 7), Op::Unary(Unary::Cosh, 2), Op::PowI(0, -3), Op::Constant(1.25)]);
    let base = ops.len() - 1;
    for f in Unary::ALL {
        ops.extend([Op::Unary(f, 8), Op::Unary(f, 0)]);
    }
    for f in Binary::ALL {
        ops.extend([Op::Binary(f, base, 8), Op::Binary(f, 8, 9), Op::Binary(f, 0, 10)]);
    }
    let outputs: Vec<usize> = (0..ops.len()).collect();
    for part in outputs.chunks(20) {
        let program = Program::new(5, ops.clone(), part.to_vec()).unwrap();
        let run = |device: &Device| {
            let normal = |len: usize, stream| {
                let p = Philox::new(8, stream);
                Buffer::from_vec(device, (0..len as u64).map(|i| p.normal(i)).collect()).unwrap()
            };
            let mut u = normal(n, 0);
            let mut axes = [0, 1, 2].map(|d| normal(shape[d], 1 + d as u64));
            let mut inputs = vec![Input::Field(&mut u)];
            let stride = |d: usize| shape[d + 1..].iter().product();
            inputs.extend(axes.iter_mut().enumerate().map(|(d, values)| Input::Axis { values, stride: stride(d) }));
            inputs.push(Input::Scalar(0.4));
            let mut out: Vec<Buffer<f64>> = part.iter().map(|_| Buffer::zeros(device, n).unwrap()).collect();
            program.run(device, n, &mut inputs, &mut out.iter_mut().collect::<Vec<_>>()).unwrap();
            out.into_iter().map(Buffer::into_vec).collect::<Vec<_>>()
        };
        let expected = run(&Device::cpu());
        for device in devices() {
            for ((got, expected), step) in run(&device).iter().zip(&expected).zip(part) {
                for (i, (a, b)) in got.iter().zip(expected).enumerate() {
                    let close = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-13 * b.abs();
                    assert!(close, "{device:?}, {:?}, point {i}: {a}, the CPU has {b}", ops[*step]);
                }
            }
        }
    }
}

#[test]
fn a_program_with_too_many_live_values_is_refused_on_a_gpu() {
    use convoke_kernels::pointwise::{Binary, Input, Op, Program, Unary};
    // 100 sines, all of them needed by the sums that follow.
    let mut ops = vec![Op::Input(0)];
    ops.extend((0..100).map(|i| Op::Unary(Unary::Sin, i)));
    ops.extend((0..100).map(|i| Op::Binary(Binary::Add, 100 + i, 100 - i)));
    let program = Program::new(1, ops, vec![200]).unwrap();
    for device in devices() {
        let (mut u, mut out) = (Buffer::zeros(&device, 300).unwrap(), Buffer::zeros(&device, 300).unwrap());
        let error = program.run(&device, 300, &mut [Input::Field(&mut u)], &mut [&mut out]).unwrap_err();
        assert!(error.to_string().contains("at most 96"), "{error}");
        program.run(&Device::cpu(), 300, &mut [Input::Field(&mut u)], &mut [&mut out]).unwrap();
    }
}

#[test]
fn a_buffer_follows_its_last_use() {
    for device in devices() {
        let ops = Slices::new(&device, 1).unwrap();
        let mut y = Buffer::from_vec(&Device::cpu(), vec![1.0f32; 70]).unwrap();
        ops.scale(&[2.0], &mut y).unwrap(); // on the device
        y.host_mut()[3] += 5.0; // on the host
        ops.scale(&[10.0], &mut y).unwrap(); // on the device again
        assert_eq!(y.host()[2..5], [20.0, 70.0, 20.0]);
        assert!(Buffer::<f32>::zeros(&device, 9).unwrap().host().iter().all(|v| *v == 0.0));
    }
}
