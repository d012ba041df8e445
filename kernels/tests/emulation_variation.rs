//! Steps of total variation under emulation (the same launches as on a GPU) against the plain loops, which are the processor's. Skipped, with
//! a printed reason, where there is no g++.

#![allow(clippy::unwrap_used)]

mod common;

use common::devices;
use convoke_kernels::variation::*;
use convoke_kernels::*;

fn buffer(device: &Device, len: usize, stream: u64) -> Buffer<f32> {
    let values = (0..len as u64).map(|i| Philox::new(47, stream).normal(i) as f32).collect();
    Buffer::from_vec(device, values).unwrap()
}

/// What `run` makes on each device is what it makes on the processor, to 1e-6 of the largest value.
#[track_caller]
fn assert_equal(what: &str, run: impl Fn(&Device) -> Vec<Vec<f32>>) {
    let expected = run(&Device::cpu());
    for device in devices() {
        for (part, (found, expected)) in run(&device).iter().zip(&expected).enumerate() {
            assert_eq!(found.len(), expected.len(), "{what}");
            let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
            assert!(largest > 0.0, "{what}: nothing is compared");
            for (at, (a, b)) in found.iter().zip(expected).enumerate() {
                let far = (a - b).abs() / largest;
                // Not `far > 1e-6`, which lets NaN pass.
                assert!(far <= 1e-6, "{what}, part {part}, number {at}: {a} {b}, {far:e} of the largest");
            }
        }
    }
}

/// One slice and several, slabs with neighbours and alone, rows beyond a block, masks, both kinds of norms, one axis and three.
#[test]
fn steps_equal_the_loops_to_1e_6() {
    for (slices, points) in [(1, [1, 1]), (1, [4, 3]), (3, [5, 7]), (4, [3, 300])] {
        for (axes, together, joined) in [(1, true, false), (3, false, true), (3, true, false), (1, false, true)] {
            let slab = Slab { slices, points, axes };
            let (n, size) = (slab.voxels(), slab.size());
            let what = format!("{slab:?} {together} {joined}");
            let edge = |device: &Device, stream: u64| joined.then(|| buffer(device, size, stream));
            assert_equal(&format!("dual {what}"), |device| {
                let (mut v, mut behind) = (buffer(device, n, 1), edge(device, 2));
                let (mut w, mut room) = (buffer(device, slab.field(), 3), buffer(device, slab.field(), 4));
                slab.dual(device, (0.8, together), (&mut v, behind.as_mut()), &mut w, &mut room).unwrap();
                vec![w.into_vec(), room.into_vec()]
            });
            assert_equal(&format!("transposed {what}"), |device| {
                let (mut p, mut before) = (buffer(device, slab.field(), 5), edge(device, 6));
                let (mut mask, mut out) = (edge(device, 7), buffer(device, n, 8));
                slab.transposed(device, [0.7, -1.3], (&mut p, before.as_mut()), mask.as_mut(), &mut out).unwrap();
                vec![out.into_vec()]
            });
            assert_equal(&format!("normal {what}"), |device| {
                let (mut before, mut behind, mut mask) = (edge(device, 9), edge(device, 10), edge(device, 11));
                let (mut v, mut out) = (buffer(device, n, 12), buffer(device, n, 13));
                let fields = (&mut v, before.as_mut(), behind.as_mut());
                slab.normal(device, [0.7, -1.3, 0.4], fields, mask.as_mut(), &mut out).unwrap();
                vec![out.into_vec()]
            });
            assert_equal(&format!("edges {what}"), |device| {
                let (mut v, mut p) = (buffer(device, n, 14), buffer(device, slab.field(), 15));
                let mut edges = [0, 1, 2].map(|_| Buffer::zeros(device, size).unwrap());
                slab.slice(device, &mut v, false, &mut edges[0]).unwrap();
                slab.slice(device, &mut v, true, &mut edges[1]).unwrap();
                slab.last_differences(device, &mut p, &mut edges[2]).unwrap();
                edges.into_iter().map(Buffer::into_vec).collect()
            });
        }
    }
    assert_equal("bound", |device| {
        let [mut x, mut w, mut r] = [16, 17, 18].map(|stream| buffer(device, 1000, stream));
        bound(device, 0.6, &mut x, &mut w, &mut r).unwrap();
        vec![w.into_vec(), r.into_vec()]
    });
}
