use convoke_cluster::comm::run_threads;
use convoke_cluster::{Comm, Region};
use convoke_kernels::Philox;

use super::*;
use crate::gp_pde::bytes::Sender;
use crate::gp_pde::field::whole_mode;
use crate::gp_pde::layout::Place;

/// Nodes, points and coefficients of an axis.
type Extents = (usize, usize, usize);

fn random(rows: usize, cols: usize, stream: u64) -> Mat<f64> {
    let philox = Philox::new(7, stream);
    Mat::from_fn(rows, cols, |i, j| philox.normal((i * cols + j) as u64))
}

fn at(points: usize, coefficients: usize, axis: usize) -> AxisAt {
    let functions = (0..2).map(|o| random(points, coefficients, (10 * axis + o) as u64 + 1)).collect();
    AxisAt { functions, lifts: Vec::new(), free: Vec::new(), nodes: None }
}

/// A field at points that are no nodes and the coefficients of a field, as whole arrays, and what each rank sent.
fn there_and_back(axes: &[Extents], grid: RankGrid, whole: &[bool], message: usize) -> (Vec<f64>, Vec<f64>) {
    let (ranks, d) = (grid.slabs * grid.groups, axes.len());
    let results = run_threads(ranks, |comm| {
        let device = Device::cpu();
        let layout = Layout { message, ..Layout::new(&comm, grid)? };
        let analysis: Vec<Mat<f64>> =
            axes.iter().enumerate().map(|(a, (n, _, r))| random(*r, *n, 100 + a as u64)).collect();
        let mut transforms = Transforms::new(&device, &layout, &analysis, whole.to_vec())?;
        let nodes = transforms.points(&axes.iter().map(|(n, _, r)| at(*n, *r, 5)).collect::<Vec<_>>())?;
        let mut points = transforms.points(&axes.iter().map(|(_, p, r)| at(*p, *r, 3)).collect::<Vec<_>>())?;
        let shape = |of: fn(&Extents) -> usize| axes.iter().map(of).collect::<Vec<_>>();
        let sender =
            Sender { place: layout.place, points: &nodes.shape, coefficients: &transforms.coefficients.clone() };

        let everything: Vec<f64> = (0..axes.iter().map(|a| a.2).product()).map(|i| (i as f64).cos()).collect();
        let region = Region {
            start: transforms.parts[..d].iter().map(|p| p.start).collect(),
            count: transforms.parts[..d].iter().map(Range::len).collect(),
        };
        let mut y = vec![0.0; transforms.len()];
        if !y.is_empty() {
            Region::whole(&shape(|a| a.2)).copy_part(&everything, &region, &region, &mut y);
        }
        let before = comm.traffic().bytes;
        let mut orders = vec![0; d];
        orders[d / 2] = 1;
        let u = transforms.synthesize(&mut points, &orders, &mut Buffer::from_vec(&device, y)?)?.into_vec();
        assert_eq!(comm.traffic().bytes - before, sender.up_at(&points.shape), "up");

        let here = layout.region(&shape(|a| a.0));
        let all: Vec<f64> = (0..axes.iter().map(|a| a.0).product()).map(|i| (0.1 * i as f64).sin()).collect();
        let mut field = vec![0.0; here.len()];
        Region::whole(&shape(|a| a.0)).copy_part(&all, &here, &here, &mut field);
        let before = comm.traffic().bytes;
        let z = transforms.analyse(&nodes, Buffer::from_vec(&device, field)?)?.into_vec();
        assert_eq!(comm.traffic().bytes - before, sender.down(), "down");
        Ok(((layout.region(&shape(|a| a.1)), u), (region, z)))
    });
    let (mut field, mut coefficients) = (Vec::new(), Vec::new());
    let results: Vec<_> = results.into_iter().map(|r| r.unwrap()).collect();
    for (out, whole, parts) in [
        (&mut field, axes.iter().map(|a| a.1).collect::<Vec<_>>(), results.iter().map(|r| &r.0).collect::<Vec<_>>()),
        (&mut coefficients, axes.iter().map(|a| a.2).collect(), results.iter().map(|r| &r.1).collect()),
    ] {
        let whole = Region::whole(&whole);
        *out = vec![f64::NAN; whole.len()];
        for (region, values) in parts.iter().filter(|p| !p.1.is_empty()) {
            region.copy_part(values, region, &whole, out);
        }
        assert!(out.iter().all(|v| v.is_finite()), "every element has an owner");
    }
    (field, coefficients)
}

/// Any grid of ranks, any number of chunks: the same numbers, and the bytes of the formulas.
#[test]
fn any_layout_gives_the_same_fields_and_sends_what_the_formulas_say() {
    let cube: &[Extents] = &[(9, 7, 5), (8, 11, 6), (10, 9, 7)];
    let four: &[Extents] = &[(5, 6, 4), (4, 3, 3), (6, 5, 5), (5, 7, 4)];
    for axes in [&[(11, 9, 6)][..], &[(9, 7, 5), (8, 11, 6)], cube, four] {
        let free = vec![false; axes.len()];
        let mut back = free.clone();
        back[axes.len() - 1] = true;
        let (u, z) = there_and_back(axes, RankGrid { slabs: 1, groups: 1 }, &free, 1);
        let grids: &[(usize, usize)] = match axes.len() {
            1 | 2 => &[(2, 1), (3, 1), (5, 1), (14, 1)],
            _ => &[(2, 1), (3, 1), (5, 1), (2, 2), (1, 3), (3, 2), (4, 3), (12, 1)],
        };
        for (slabs, groups) in grids.iter().copied() {
            for (whole, message) in [(&free, 1 << 20), (&free, 1), (&free, 100), (&back, 1)] {
                let (v, w) = there_and_back(axes, RankGrid { slabs, groups }, whole, message);
                let far = |a: &[f64], b: &[f64]| a.iter().zip(b).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
                let (up, down) = (far(&u, &v), far(&z, &w));
                assert!(up < 1e-11 && down < 1e-11, "{slabs} × {groups}: {up:e} {down:e}");
            }
        }
    }
}

#[test]
fn a_mode_is_made_whole_and_costs_what_the_formula_says() {
    let shape = [7, 5, 6];
    let all: Vec<f64> = (0..210).map(f64::from).collect();
    for (slabs, groups) in [(1, 1), (3, 1), (2, 2), (1, 4), (9, 1)] {
        let results = run_threads(slabs * groups, |comm: Comm| {
            let layout = Layout::new(&comm, RankGrid { slabs, groups })?;
            let here = layout.region(&shape);
            let mut mine = vec![0.0; here.len()];
            Region::whole(&shape).copy_part(&all, &here, &here, &mut mine);
            let before = comm.traffic().bytes;
            let mut lines = Vec::new();
            for (mode, n) in shape.iter().enumerate() {
                let mut x = whole_mode(&layout, &shape, mode, &mine)?;
                assert_eq!(x.shape[mode], *n);
                let inner: usize = x.shape[mode + 1..].iter().product();
                let stride: usize = shape[mode + 1..].iter().product();
                let values = x.values.host().to_vec();
                for line in values.chunks_exact((n * inner).max(1)).filter(|_| inner > 0) {
                    let column = |i: usize| (0..*n).map(move |k| line[k * inner + i]).collect::<Vec<f64>>();
                    for line in (0..inner).map(column) {
                        assert!(line.windows(2).all(|w| (w[1] - w[0]) as usize == stride), "mode {mode}: {line:?}");
                        lines.push((mode, line[0] as usize));
                    }
                }
            }
            let coefficients = Coefficients { extents: shape.to_vec(), whole: vec![false; 3] };
            let sender = Sender { place: Place { ..layout.place }, points: &shape, coefficients: &coefficients };
            assert_eq!(comm.traffic().bytes - before, sender.reweighting(&[]));
            Ok(lines)
        });
        let mut lines: Vec<_> = results.into_iter().flat_map(|r| r.unwrap()).collect();
        lines.sort_unstable();
        let unique = lines.len();
        lines.dedup();
        assert_eq!((unique, lines.len()), (107, 107), "{slabs} × {groups}: 30 + 42 + 35 lines, each once");
    }
}
