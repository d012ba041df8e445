//! Between the arrays of the outside, slice by slice, and groups of slices with z innermost: 8 bytes moved per
//! element and direction.
#![allow(unsafe_code)]

use super::gather::WIDTH;
use std::marker::PhantomData;

/// Consecutive slices that are worked on together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// First slice and number of slices.
    pub first: usize,
    pub count: usize,
    /// Vectors of 16 slices: 1 or 2. Lanes beyond `count` hold zeros.
    pub vectors: usize,
}

impl Group {
    /// Groups of 32 slices, then one of the rest.
    pub(super) fn all(n_slices: usize) -> impl Iterator<Item = Group> {
        (0..n_slices).step_by(2 * WIDTH).map(move |first| {
            let count = (n_slices - first).min(2 * WIDTH);
            Group { first, count, vectors: count.div_ceil(WIDTH) }
        })
    }

    /// Floats per sample.
    pub(super) fn width(&self) -> usize {
        self.vectors * WIDTH
    }
}

/// 16 floats on a cache line of their own: a vector load that straddles two costs twice.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(super) struct Aligned([f32; WIDTH]);

/// Zeroed, aligned workspace of `len` floats (a multiple of 16), re-using the memory of `work`.
pub(super) fn workspace(work: &mut Vec<Aligned>, len: usize) -> &mut [f32] {
    work.clear();
    work.resize(len.div_ceil(WIDTH), Aligned::default());
    &mut bytemuck::cast_slice_mut(work)[..len]
}

/// `packed[i][z] = scale * source[z * slice_len + start + i]` for the group's slices; `packed` sets the length.
pub(super) fn pack(group: Group, source: &[f32], slice_len: usize, start: usize, scale: f32, packed: &mut [f32]) {
    let width = group.width();
    // 16 samples of all slices at a time: a cache line of each slice, and a block of `packed` that fits L1.
    for (block, packed) in packed.chunks_mut(WIDTH * width).enumerate() {
        let n = packed.len() / width;
        packed.fill(0.0);
        for z in 0..group.count {
            let line = &source[(group.first + z) * slice_len + start + block * WIDTH..][..n];
            for (p, x) in packed.chunks_exact_mut(width).zip(line) {
                p[z] = scale * x;
            }
        }
    }
}

/// An array whose disjoint pieces are written by many threads.
pub(super) struct Shared<'a> {
    start: *mut f32,
    len: usize,
    array: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer stands for a `&mut [f32]`; `unpack` is told to keep the pieces of the threads apart.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(super) fn new(array: &'a mut [f32]) -> Self {
        Self { start: array.as_mut_ptr(), len: array.len(), array: PhantomData }
    }

    /// `array[z * slice_len + start + i] = packed[i][z]` for the group's slices.
    ///
    /// # Safety
    /// No other thread may write the samples `start..start + packed.len() / width` of these slices meanwhile.
    pub(super) unsafe fn unpack(&self, group: Group, slice_len: usize, start: usize, packed: &[f32]) {
        let width = group.width();
        for (block, packed) in packed.chunks(WIDTH * width).enumerate() {
            let n = packed.len() / width;
            for z in 0..group.count {
                let offset = (group.first + z) * slice_len + start + block * WIDTH;
                assert!(offset + n <= self.len, "a piece lies inside the array");
                // SAFETY: inside the array, and by the caller's promise nobody else's.
                let line = unsafe { std::slice::from_raw_parts_mut(self.start.add(offset), n) };
                for (x, p) in line.iter_mut().zip(packed.chunks_exact(width)) {
                    *x = p[z];
                }
            }
        }
    }
}
