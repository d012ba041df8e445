//! The oracle against properties of its formulas; and what is refused.

use super::*;
use crate::Philox;

fn random(len: usize, stream: u64) -> Vec<f32> {
    (0..len as u64).map(|i| Philox::new(43, stream).normal(i) as f32).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

const ALL: Slab = Slab { slices: 5, points: [3, 4], axes: 3 };

/// ⟨∇v, p⟩ = ⟨v, ∇ᵀp⟩ for fields that are 0 where differences are, and ∇ᵀ(∇v) = (∇ᵀ∇)v; slabs with slices of their neighbours make the same.
#[test]
fn differences_have_their_transpose_in_slabs_as_well() {
    for axes in [1, 3] {
        let all = Slab { axes, ..ALL };
        let (v, w) = (random(all.voxels(), 1), random(all.voxels(), 2));
        let g = reference::gradient(&all, &v, None);
        let p: Vec<f32> = reference::gradient(&all, &w, None).iter().map(|g| g * g * g).collect();
        let t = reference::transposed(&all, &p, None);
        let (a, b) = (dot(&g, &p), dot(&v, &t));
        assert!((a - b).abs() < 1e-5 * a.abs(), "{a} {b}");
        let n = reference::normal(&all, &v, None, None);
        // Σ over the neighbours that there are of the difference to them.
        for (i, n) in n.iter().enumerate() {
            let [slice, y, x] = [i / 12, i / 4 % 3, i % 4].map(|at| at as i64);
            let steps = [[1, 0, 0], [0, 1, 0], [0, 0, 1]].into_iter().take(axes);
            let neighbours = steps.flat_map(|[z, v, u]| [[slice + z, y + v, x + u], [slice - z, y - v, x - u]]);
            let there = |at: &[i64; 3]| at.iter().zip([5, 3, 4]).all(|(at, n)| (0..n).contains(at));
            let sum: f32 = neighbours.filter(there).map(|[z, y, x]| v[i] - v[((z * 3 + y) * 4 + x) as usize]).sum();
            assert!((n - sum).abs() < 1e-5, "{axes} {i}: {n} {sum}");
        }
        // The first two slices and the others.
        let (size, field) = (all.size(), axes * all.size());
        let [front, back] = [2, 3].map(|slices| Slab { slices, ..all });
        let (v_front, v_back) = v.split_at(2 * size);
        let behind = Some(&v_back[..size]);
        let before = Some(&v_front[size..]);
        let halves = [reference::gradient(&front, v_front, behind), reference::gradient(&back, v_back, None)];
        assert_eq!(halves.concat(), g);
        let along_z: Vec<f32> = p[field..2 * field].chunks(axes * 4).flat_map(|row| row[..4].to_vec()).collect();
        let halves = [
            reference::transposed(&front, &p[..2 * field], None),
            reference::transposed(&back, &p[2 * field..], Some(&along_z)),
        ];
        assert_eq!(halves.concat(), t);
        let halves = [reference::normal(&front, v_front, None, behind), reference::normal(&back, v_back, before, None)];
        assert_eq!(halves.concat(), n);
        // And those are the slices that are taken out of a volume and of a field.
        let device = Device::cpu();
        let buffer = |values: &[f32]| Buffer::from_vec(&device, values.to_vec()).unwrap();
        let mut edge = Buffer::zeros(&device, size).unwrap();
        front.slice(&device, &mut buffer(v_front), true, &mut edge).unwrap();
        assert_eq!(edge.host(), &v_front[size..]);
        back.slice(&device, &mut buffer(v_back), false, &mut edge).unwrap();
        assert_eq!(edge.host(), &v_back[..size]);
        front.last_differences(&device, &mut buffer(&p[..2 * field]), &mut edge).unwrap();
        assert_eq!(edge.host(), along_z);
    }
}

/// Projections are the nearest fields: what is small stays, and no voxel is left with more than the radius.
#[test]
fn projections_leave_no_more_than_the_radius() {
    for together in [false, true] {
        let p: Vec<f32> = random(ALL.field(), 3).iter().map(|p| 2.0 * p).collect();
        let mut q = p.clone();
        reference::project(&ALL, 1.5, together, &mut q);
        let norm = |p: &[f32], row: usize, x: usize| {
            let parts = (0..3).map(|axis| p[(row * 3 + axis) * 4 + x].abs());
            if together { parts.map(|p| p * p).sum::<f32>().sqrt() } else { parts.fold(0.0, f32::max) }
        };
        let mut moved = 0;
        for (row, x) in (0..15).flat_map(|row| (0..4).map(move |x| (row, x))) {
            let (before, after) = (norm(&p, row, x), norm(&q, row, x));
            assert!((after - before.min(1.5)).abs() < 1e-6, "{before} {after}");
            moved += usize::from(before > 1.5);
        }
        assert!(moved > 0 && moved < 60, "{moved}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let device = Device::cpu();
    let buffer = |len: usize| Buffer::<f32>::zeros(&device, len).unwrap();
    let dual = |slab: Slab, v: usize, edge: usize, w: usize| {
        let (mut v, mut edge, mut w, mut room) = (buffer(v), buffer(edge), buffer(w), buffer(slab.field()));
        slab.dual(&device, (1.0, true), (&mut v, Some(&mut edge)), &mut w, &mut room).is_err()
    };
    assert!(!dual(ALL, 60, 12, 180));
    assert!(dual(ALL, 59, 12, 180) && dual(ALL, 60, 11, 180) && dual(ALL, 60, 12, 179));
    assert!(dual(Slab { axes: 2, ..ALL }, 60, 12, 120) && dual(Slab { slices: 0, ..ALL }, 0, 12, 0));
    let mut out = buffer(61);
    assert!(ALL.transposed(&device, [1.0, 0.0], (&mut buffer(180), None), None, &mut out).is_err());
    assert!(
        ALL.normal(&device, [1.0; 3], (&mut buffer(60), None, None), Some(&mut buffer(13)), &mut buffer(60)).is_err()
    );
    assert!(bound(&device, 1.0, &mut buffer(3), &mut buffer(3), &mut buffer(4)).is_err());
    assert!(ALL.slice(&device, &mut buffer(60), true, &mut buffer(11)).is_err());
}
