//! The fast paths against the reference, and the independence of their bits.

use super::tests::{awkward_geometries, back, difference, forward, random};
use super::*;

fn with(p: &Projector, simd: Option<Simd>) -> Projector {
    Projector { simd, ..p.clone() }
}

fn projectors() -> Vec<Projector> {
    let both = |g: &ParallelGeometry| {
        [Footprint::Linear, Footprint::Joseph].map(|f| Projector::new(&Device::cpu(), g.clone(), f).unwrap())
    };
    awkward_geometries().iter().flat_map(both).collect()
}

#[test]
fn every_instruction_set_equals_the_reference_to_1e_6_of_the_maximum() {
    for (case, p) in projectors().iter().enumerate() {
        for n_slices in [1, 2, 17, 33] {
            let (x, y) =
                (random(n_slices * p.geometry.slice_len(), 0), random(n_slices * p.geometry.sinogram_len(), 1));
            let (ax, aty) = (forward(&with(p, None), &x), back(&with(p, None), &y));
            for simd in Simd::available() {
                let fast = with(p, Some(*simd));
                let (df, db) = (difference(&forward(&fast, &x), &ax), difference(&back(&fast, &y), &aty));
                assert!(df < 1e-6 && db < 1e-6, "case {case}, {n_slices} slices, {simd:?}: {df} {db}");
            }
        }
    }
}

#[test]
fn a_slice_has_the_same_bits_alone_or_among_others_on_any_number_of_threads() {
    for p in projectors() {
        let n_slices = 35;
        let (v, s) = (p.geometry.slice_len(), p.geometry.sinogram_len());
        let (x, y) = (random(n_slices * v, 0), random(n_slices * s, 1));
        let (ax, aty) = (forward(&p, &x), back(&p, &y));
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(pool.install(|| forward(&p, &x)) == ax && pool.install(|| back(&p, &y)) == aty);
        }
        for (first, n) in [(0, 1), (16, 2), (20, 15), (34, 1), (1, 33)] {
            assert!(forward(&p, &x[first * v..][..n * v]) == ax[first * s..][..n * s], "forward {first} {n}");
            assert!(back(&p, &y[first * s..][..n * s]) == aty[first * v..][..n * v], "back {first} {n}");
        }
    }
}

#[test]
fn avx2_and_avx512_give_the_same_bits() {
    if machine::simd() != Simd::Avx512 {
        return;
    }
    for p in projectors() {
        let (x, y) = (random(3 * p.geometry.slice_len(), 0), random(3 * p.geometry.sinogram_len(), 1));
        let narrow = with(&p, Some(Simd::Avx2));
        assert!(forward(&p, &x) == forward(&narrow, &x) && back(&p, &y) == back(&narrow, &y));
    }
}
