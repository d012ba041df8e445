//! Launches on a GPU or under emulation.

use super::{Array, Beside, Feed, Folded, ModeBias, SpaceTime};
use crate::Result;
use crate::fourier_layer::Scratch;
use crate::fourier_layer::cuda::{PIECE, VECTOR_THREADS, long, looping, tiled, vectors};
use crate::gpu::{Arg, Extent, Gpu, SPATIOTEMPORAL, int};

/// Tile of a network: channels, points.
const TILE: [usize; 2] = [32, 64];
/// Numbers of one piece of a mean.
const MEAN_PIECE: usize = 4096;

fn launch(gpu: &Gpu, kernel: &'static str, extent: Extent, args: &[Arg]) -> Result<()> {
    gpu.launch(&SPATIOTEMPORAL, kernel, extent, args)
}

/// Address of what starts at a place of an array.
fn part(array: u64, start: usize) -> Arg {
    Arg::Address(array + 4 * start as u64)
}

fn tiles(feed: &Feed, samples: usize, points: usize) -> Extent {
    tiled(samples * points.div_ceil(TILE[1]) * feed.h.div_ceil(TILE[0]))
}

#[allow(clippy::too_many_arguments)]
pub(super) fn feed(
    gpu: &Gpu,
    feed: &Feed,
    (samples, points): (usize, usize),
    parameters: &mut Array,
    x: &mut Array,
    beside: Beside<'_>,
    slopes: &mut Array,
    out: &mut Array,
) -> Result<()> {
    let all = parameters.device_in(gpu)?;
    let none = Arg::Address(0);
    let beside = match beside {
        Beside::Map(weight, bias, v) => {
            [Arg::Address(v.device_in(gpu)?), part(all, weight), part(all, bias), int(1), int(1)]
        }
        Beside::Newest(times, latent, v) => [Arg::Address(v.device_in(gpu)?), none, none, int(times), int(latent)],
    };
    let head = [int(feed.h), int(feed.inside), int(points), Arg::Address(x.device_in(gpu)?), part(all, feed.start)];
    let tail = [Arg::Address(slopes.device_out(gpu)?), Arg::Address(out.device_out(gpu)?)];
    launch(gpu, "spatiotemporal_feed", tiles(feed, samples, points), &[&head[..], &beside, &tail].concat())
}

pub(super) fn feed_back(
    gpu: &Gpu,
    feed: &Feed,
    (samples, points): (usize, usize),
    parameters: &mut Array,
    x: &mut Array,
    g: &mut Array,
    dx: &mut Array,
) -> Result<()> {
    let args = [
        int(feed.h),
        int(feed.inside),
        int(points),
        Arg::Address(x.device_in(gpu)?),
        part(parameters.device_in(gpu)?, feed.start),
        Arg::Address(g.device_in(gpu)?),
        Arg::Address(dx.device_out(gpu)?),
    ];
    launch(gpu, "spatiotemporal_feed_back", tiles(feed, samples, points), &args)
}

pub(super) fn feed_gradient(
    gpu: &Gpu,
    feed: &Feed,
    (samples, points): (usize, usize),
    parameters: &mut Array,
    (x, g): (&mut Array, &mut Array),
    (gradient, scratch): (&mut Array, &mut Scratch),
) -> Result<()> {
    let pieces = samples * points.div_ceil(PIECE);
    let partial = scratch.at_least(gpu, 4 * pieces * feed.count())?;
    let args = [
        int(feed.h),
        int(feed.inside),
        int(points),
        int(PIECE),
        Arg::Address(x.device_in(gpu)?),
        part(parameters.device_in(gpu)?, feed.start),
        Arg::Address(g.device_in(gpu)?),
        Arg::Address(partial),
    ];
    let blocks = pieces * feed.inside.div_ceil(TILE[0]) * feed.h.div_ceil(TILE[0]);
    launch(gpu, "spatiotemporal_feed_gradient", tiled(blocks), &args)?;
    let to = part(gradient.device_inout(gpu)?, feed.start);
    let args = [long(feed.count()), int(pieces), Arg::Address(partial), to];
    launch(gpu, "spatiotemporal_sum", vectors(feed.count().div_ceil(32) * VECTOR_THREADS), &args)
}

#[allow(clippy::too_many_arguments)]
pub(super) fn standard(
    gpu: &Gpu,
    s: &SpaceTime,
    samples: usize,
    tiny: f64,
    encoding: &mut Array,
    snapshots: &mut Array,
    scratch: &mut Scratch,
    out: &mut Array,
) -> Result<()> {
    let size = encoding.len();
    let pieces = size.div_ceil(MEAN_PIECE);
    let partial = scratch.at_least(gpu, 16 * samples * pieces + 8 * samples)?;
    let moments = Arg::Address(partial + (16 * samples * pieces) as u64);
    let (encoding, snapshots) = (Arg::Address(encoding.device_in(gpu)?), Arg::Address(snapshots.device_in(gpu)?));
    let partial = Arg::Address(partial);
    let args = [int(size), int(s.places), int(s.times), int(MEAN_PIECE), encoding, snapshots, partial];
    launch(gpu, "spatiotemporal_standard_sums", vectors(samples * pieces * VECTOR_THREADS), &args)?;
    let args = [int(samples), int(pieces), int(size), Arg::F64(tiny), partial, moments];
    launch(gpu, "spatiotemporal_standard_moments", vectors(samples), &args)?;
    let out = Arg::Address(out.device_out(gpu)?);
    let args = [int(samples), int(size), int(s.places), int(s.times), encoding, snapshots, moments, out];
    launch(gpu, "spatiotemporal_standard", looping(samples * size), &args)
}

pub(super) fn gather(gpu: &Gpu, s: &SpaceTime, lines: usize, g: &mut Array, x: &mut Array) -> Result<()> {
    let (g, x) = (Arg::Address(g.device_in(gpu)?), Arg::Address(x.device_inout(gpu)?));
    launch(gpu, "spatiotemporal_gather", vectors(lines), &[int(lines), int(s.times), int(s.latent), g, x])
}

/// With snapshots to z, without them from z.
pub(super) fn join(
    gpu: &Gpu,
    s: &SpaceTime,
    samples: usize,
    snapshots: Option<&mut Array>,
    reduced: &mut Array,
    z: &mut Array,
) -> Result<()> {
    let (snapshots, reduced, z, back) = match snapshots {
        Some(w) => (w.device_in(gpu)?, reduced.device_in(gpu)?, z.device_out(gpu)?, 0),
        None => (0, reduced.device_out(gpu)?, z.device_in(gpu)?, 1),
    };
    let head = [int(samples), int(s.places), int(s.times), int(s.latent)];
    let tail = [Arg::Address(snapshots), Arg::Address(reduced), Arg::Address(z), Arg::I32(back)];
    launch(gpu, "spatiotemporal_join", vectors(samples * s.places), &[head, tail].concat())
}

/// With what was given to snapshots, without it to changes.
pub(super) fn forecast(
    gpu: &Gpu,
    s: &SpaceTime,
    samples: usize,
    given: Option<&mut Array>,
    changes: &mut Array,
    snapshots: &mut Array,
) -> Result<()> {
    let n = changes.len();
    let (given, changes, snapshots, back) = match given {
        Some(w) => (w.device_in(gpu)?, changes.device_in(gpu)?, snapshots.device_out(gpu)?, 0),
        None => (0, changes.device_out(gpu)?, snapshots.device_in(gpu)?, 1),
    };
    let head = [int(samples), int(s.places), int(s.times), int(s.output)];
    let tail = [Arg::Address(given), Arg::Address(changes), Arg::Address(snapshots), Arg::I32(back)];
    launch(gpu, "spatiotemporal_forecast", looping(n), &[head, tail].concat())
}

pub(super) fn fold(gpu: &Gpu, f: &Folded, parameters: &mut Array, folded: &mut Array) -> Result<()> {
    let all = parameters.device_in(gpu)?;
    let places = [f.scale, f.shift, f.weight, f.bias].map(|start| part(all, start));
    let args = [&[int(f.h)][..], &places, &[Arg::Address(folded.device_out(gpu)?)]].concat();
    launch(gpu, "spatiotemporal_fold", vectors(1), &args)
}

pub(super) fn unfold(
    gpu: &Gpu,
    f: &Folded,
    parameters: &mut Array,
    folded: &mut Array,
    gradient: &mut Array,
) -> Result<()> {
    let (all, to) = (parameters.device_in(gpu)?, gradient.device_inout(gpu)?);
    let places = [f.scale, f.shift, f.weight].map(|start| part(all, start));
    let outs = [f.scale, f.shift, f.weight, f.bias].map(|start| part(to, start));
    let args = [&[int(f.h)][..], &places, &[Arg::Address(folded.device_in(gpu)?)], &outs].concat();
    launch(gpu, "spatiotemporal_unfold", vectors(1), &args)
}

pub(super) fn add_bias(gpu: &Gpu, b: &ModeBias, samples: usize, parameters: &mut Array, y: &mut Array) -> Result<()> {
    let (from, y) = (part(parameters.device_in(gpu)?, b.start), Arg::Address(y.device_inout(gpu)?));
    let args = [int(samples), int(b.outer), int(b.inner), Arg::F32(b.factor), from, y];
    launch(gpu, "spatiotemporal_bias", vectors(2 * b.outer * b.inner), &args)
}

pub(super) fn bias_gradient(
    gpu: &Gpu,
    b: &ModeBias,
    samples: usize,
    g: &mut Array,
    gradient: &mut Array,
) -> Result<()> {
    let (g, to) = (Arg::Address(g.device_in(gpu)?), part(gradient.device_inout(gpu)?, b.start));
    let args = [int(samples), int(b.outer), int(b.inner), Arg::F32(b.factor), g, to];
    launch(gpu, "spatiotemporal_bias_gradient", vectors(2 * b.outer * b.inner), &args)
}
