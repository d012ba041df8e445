//! The same on the threads of the current pool, sample by sample.

use super::Products;
use rayon::prelude::*;

/// One sample's part of the state.
pub(super) struct Sample<'a> {
    pub basis: &'a mut [f64],
    pub count: &'a mut i32,
    pub accepted: &'a mut [u64],
}

/// Goes through the candidates of every sample: tables `[sample, chunk, entries]`, uniforms `[sample, chunk]`.
pub(super) fn advance(
    products: &Products,
    chunk: usize,
    first: u64,
    (tables, uniforms): (&[f64], &[f64]),
    samples: Vec<Sample<'_>>,
) {
    let entries = products.entries;
    let work = samples.into_par_iter().zip(tables.par_chunks(chunk * entries)).zip(uniforms.par_chunks(chunk));
    work.for_each(|((mut sample, tables), uniforms)| {
        for (b, (table, uniform)) in tables.chunks(entries).zip(uniforms).enumerate() {
            if *sample.count as usize == products.functions {
                break;
            }
            look_at(products, table, *uniform, first + b as u64, &mut sample);
        }
    });
}

fn look_at(products: &Products, table: &[f64], uniform: f64, number: u64, sample: &mut Sample<'_>) {
    let (m, count) = (products.functions, *sample.count as usize);
    let mut phi: Vec<f64> = (0..m).map(|j| products.value(j, table)).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let coordinates =
        |basis: &[f64], phi: &[f64]| basis.chunks(m).take(count).map(|q| dot(q, phi)).collect::<Vec<f64>>();
    let length = dot(&phi, &phi);
    let mut c = coordinates(sample.basis, &phi);
    if uniform * length >= length - dot(&c, &c) {
        return;
    }
    for pass in 0..2 {
        if pass == 1 {
            c = coordinates(sample.basis, &phi);
        }
        for (q, c) in sample.basis.chunks(m).zip(&c) {
            phi.iter_mut().zip(q).for_each(|(v, q)| *v -= c * q);
        }
    }
    let scale = 1.0 / dot(&phi, &phi).sqrt();
    sample.basis[count * m..(count + 1) * m].iter_mut().zip(&phi).for_each(|(q, v)| *q = v * scale);
    sample.accepted[count] = number;
    *sample.count += 1;
}

/// φ/‖φ‖, `[m, n]`.
pub(super) fn features(products: &Products, tables: &[f64], out: &mut [f64]) {
    let n = tables.len() / products.entries;
    for (i, table) in tables.chunks(products.entries).enumerate() {
        let phi: Vec<f64> = (0..products.functions).map(|j| products.value(j, table)).collect();
        let scale = 1.0 / phi.iter().map(|v| v * v).sum::<f64>().sqrt();
        phi.iter().enumerate().for_each(|(j, v)| out[j * n + i] = v * scale);
    }
}
