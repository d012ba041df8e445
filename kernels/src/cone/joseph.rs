//! Joseph's line integrals along the rays to the pixels' centres: bilinear in the planes that cross the ray's main axis.
//! Per ray and plane: 16 bytes read, about 20 flops.

use super::ConeProjector;
use super::geometry::{add, norm, scaled, sub};
use rayon::prelude::*;

pub(super) fn forward(p: &ConeProjector, volume: &[f32], sinogram: &mut [f32]) {
    let g = &*p.geometry;
    let [_, ny, nx] = g.shape;
    let shape = [nx, ny, p.part.slices.len()];
    let strides = [1, nx, nx * ny];
    // Indices (ix, iy, iz) of a point, iz counted from the part's first slice.
    let origin = {
        let half = [g.shape[2], g.shape[1], g.shape[0]].map(|n| (n as f64 - 1.0) / 2.0 * g.voxel);
        let corner = sub(g.centre, half);
        add(corner, [0.0, 0.0, p.part.slices.start as f64 * g.voxel])
    };
    let row_len = p.part.views.len() * g.n_cols;
    sinogram.par_chunks_mut(g.n_cols).enumerate().for_each(|(line, out)| {
        let row = p.part.rows.start + line * g.n_cols / row_len;
        let view = &g.views[p.part.views[line % p.part.views.len()]];
        let source = scaled(sub(view.source, origin), 1.0 / g.voxel);
        for (col, out) in out.iter_mut().enumerate() {
            let pixel = add(view.origin, add(scaled(view.along_u, col as f64), scaled(view.along_v, row as f64)));
            let ray = scaled(sub(pixel, view.source), 1.0 / g.voxel);
            *out = (g.voxel * along(volume, shape, strides, source, ray)) as f32;
        }
    });
}

/// The integral along source + t ray, in voxels.
fn along(volume: &[f32], shape: [usize; 3], strides: [usize; 3], source: [f64; 3], ray: [f64; 3]) -> f64 {
    let main = (0..3).fold(0, |best, k| if ray[k].abs() > ray[best].abs() { k } else { best });
    let (a, b) = ((main + 1) % 3, (main + 2) % 3);
    let step = norm(ray) / ray[main].abs();
    let mut sum = 0.0;
    for plane in 0..shape[main] {
        let t = (plane as f64 - source[main]) / ray[main];
        let (x, y) = (source[a] + t * ray[a], source[b] + t * ray[b]);
        if !(0.0..1.0).contains(&t) || x <= -1.0 || y <= -1.0 || x >= shape[a] as f64 || y >= shape[b] as f64 {
            continue;
        }
        let (fx, fy) = (x - x.floor(), y - y.floor());
        let at = |i: f64, j: f64| {
            let outside = i < 0.0 || j < 0.0 || i >= shape[a] as f64 || j >= shape[b] as f64;
            let index = || plane * strides[main] + i as usize * strides[a] + j as usize * strides[b];
            if outside { 0.0 } else { f64::from(volume[index()]) }
        };
        let (i, j) = (x.floor(), y.floor());
        sum += (1.0 - fy) * ((1.0 - fx) * at(i, j) + fx * at(i + 1.0, j));
        sum += fy * ((1.0 - fx) * at(i, j + 1.0) + fx * at(i + 1.0, j + 1.0));
    }
    sum * step
}
