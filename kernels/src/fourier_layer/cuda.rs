//! Launches on a GPU or under emulation.

use super::transform::{Scale, Transform};
use super::tucker::Along;
use super::{AdamW, After, Array, Mix, Modes};
use crate::Result;
use crate::gpu::{Arg, Extent, FOURIER_LAYER, Gpu, Memory, int};

const THREADS: u32 = 128;
pub(crate) const VECTOR_THREADS: usize = 256;
/// Points of one piece of a gradient by points.
pub(crate) const PIECE: usize = 256;
/// Numbers of one piece of a loss.
const LOSS_PIECE: usize = 4096;
/// Tile of `fourier_mix`: channels, points, lines.
const MIX: [usize; 3] = [32, 64, 8];

pub(crate) fn long(value: usize) -> Arg {
    Arg::I64(i64::try_from(value).expect("arrays are shorter than 2^63"))
}

fn blocks(count: usize) -> u32 {
    u32::try_from(count).ok().filter(|n| *n < 1 << 31).expect("sizes on a device are checked: fewer blocks than 2^31")
}

/// One axis of blocks of products.
pub(crate) fn tiled(count: usize) -> Extent {
    Extent { grid: [blocks(count), 1, 1], block: [THREADS, 1, 1], shared_bytes: 0 }
}

/// A thread for each of `n` numbers.
pub(crate) fn vectors(n: usize) -> Extent {
    Extent { grid: [blocks(n.div_ceil(VECTOR_THREADS)), 1, 1], block: [VECTOR_THREADS as u32, 1, 1], shared_bytes: 0 }
}

/// The same for loops over more.
pub(crate) fn looping(n: usize) -> Extent {
    let extent = vectors(n);
    Extent { grid: [extent.grid[0].min(1 << 20), 1, 1], ..extent }
}

/// Memory on a device for what one operation leaves to the next one; as long as the most that was needed so far.
#[derive(Debug, Default)]
pub struct Scratch(Option<Memory>);

impl Scratch {
    pub(crate) fn at_least(&mut self, gpu: &Gpu, bytes: usize) -> Result<u64> {
        match &self.0 {
            Some(memory) if memory.is_on(gpu) && memory.bytes() >= bytes => Ok(memory.address()),
            _ => Ok(self.0.insert(gpu.allocate(bytes)?).address()),
        }
    }
}

impl Scratch {
    fn exactly(&mut self, gpu: &Gpu, bytes: usize) -> Result<u64> {
        if self.0.as_ref().is_some_and(|memory| memory.bytes() != bytes) {
            self.0 = None;
        }
        self.at_least(gpu, bytes)
    }

    fn download(&self, to: &mut [u8]) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), |memory| memory.download(to))
    }
}

/// Fields as lines of the last axis.
struct Lines {
    samples: usize,
    lines: usize,
    points: usize,
}

/// A pointwise map and the fields it is applied to; back: its transpose, without bias.
pub(super) struct Pointwise<'a> {
    map: Mix,
    back: bool,
    parameters: &'a mut Array,
    fields: &'a mut Array,
}

impl<'a> Pointwise<'a> {
    pub fn forward(map: Mix, parameters: &'a mut Array, fields: &'a mut Array) -> Self {
        Self { map, back: false, parameters, fields }
    }

    pub fn back(map: Mix, parameters: &'a mut Array, fields: &'a mut Array) -> Self {
        Self { map, back: true, parameters, fields }
    }

    fn channels(&self) -> usize {
        if self.back { self.map.from } else { self.map.to }
    }
}

/// What of a synthesis is left to do: lines of coefficients along the last axis, its matrix, and numbers of a line.
struct Spectral {
    coefficients: u64,
    matrix: u64,
    width: usize,
}

/// A pointwise map alone.
pub(super) fn mix(
    gpu: &Gpu,
    (samples, points): (usize, usize),
    pointwise: Pointwise<'_>,
    after: After<'_>,
    out: &mut Array,
) -> Result<()> {
    let channels = pointwise.channels();
    // Without a transform a field is one line.
    launch_mix(gpu, &Lines { samples, lines: 1, points }, channels, None, Some(pointwise), after, out)
}

fn launch_mix(
    gpu: &Gpu,
    lines: &Lines,
    channels: usize,
    spectral: Option<Spectral>,
    pointwise: Option<Pointwise<'_>>,
    after: After<'_>,
    out: &mut Array,
) -> Result<()> {
    let [z, l, width] = spectral.map_or([0, 0, 0], |s| [s.coefficients, s.matrix, s.width as u64]);
    let (mut from, mut v, mut w, mut strides, mut bias, mut start) = (0, 0, 0, [0, 0], 0, 0);
    if let Some(Pointwise { map, back, parameters, fields }) = pointwise {
        let parameters = parameters.device_in(gpu)?;
        v = fields.device_in(gpu)?;
        w = parameters + 4 * map.weight as u64;
        (from, strides) = if back { (map.to, [1, map.from]) } else { (map.from, [map.from, 1]) };
        bias = map.bias.filter(|_| !back).map_or(0, |bias| parameters + 4 * bias as u64);
        start = parameters;
    }
    let (mut beside, mut gate, mut after) = (0, 0, after);
    if let After::Plus(fields, place, then) = after {
        beside = fields.device_in(gpu)?;
        gate = place.map_or(0, |gate| start + 4 * gate as u64);
        after = *then;
    }
    let (activations, factor, slopes) = match after {
        After::Nothing => (0, 0, 0),
        After::Gelu(times, slopes) => (times, 0, slopes.device_out(gpu)?),
        After::Times(factor) => (0, factor.device_in(gpu)?, 0),
        After::Plus(..) => unreachable!("checked: one array is added"),
    };
    let [o_tile, p_tile, most_lines] = MIX;
    // As the kernel lays lines out.
    let pitch = if lines.points < p_tile { lines.points.div_ceil(4) * 4 } else { p_tile };
    let here = most_lines.min(p_tile / pitch);
    let count = lines.samples * lines.lines.div_ceil(here) * lines.points.div_ceil(pitch) * channels.div_ceil(o_tile);
    let args = [
        int(channels),
        int(from),
        int(lines.lines),
        int(lines.points),
        Arg::I32(width as i32),
        Arg::Address(z),
        Arg::Address(l),
        Arg::Address(v),
        Arg::Address(w),
        int(strides[0]),
        int(strides[1]),
        Arg::Address(bias),
        Arg::Address(beside),
        Arg::Address(gate),
        int(activations),
        Arg::Address(factor),
        Arg::Address(slopes),
        Arg::Address(out.device_out(gpu)?),
    ];
    gpu.launch(&FOURIER_LAYER, "fourier_mix", tiled(count), &args)
}

pub(super) fn mix_gradient(
    gpu: &Gpu,
    map: Mix,
    (samples, points): (usize, usize),
    x: &mut Array,
    g: &mut Array,
    (gradient, scratch): (&mut Array, &mut Scratch),
) -> Result<()> {
    let pieces = samples * points.div_ceil(PIECE);
    let size = map.to * (map.from + 1);
    let partial = scratch.at_least(gpu, 4 * pieces * size)?;
    let args = [
        int(map.to),
        int(map.from),
        int(points),
        int(PIECE),
        Arg::Address(g.device_in(gpu)?),
        Arg::Address(x.device_in(gpu)?),
        Arg::Address(partial),
    ];
    let tiles = (map.from + 1).div_ceil(32) * map.to.div_ceil(32);
    gpu.launch(&FOURIER_LAYER, "fourier_mix_gradient", tiled(pieces * tiles), &args)?;
    let gradient = gradient.device_inout(gpu)?;
    let [weight, bias] = [Some(map.weight), map.bias].map(|at| at.map_or(0, |at| gradient + 4 * at as u64));
    launch_sum(gpu, [map.to, map.from + 1, map.from, pieces], partial, [weight, bias])
}

/// The sum of pieces of a matrix: rows, columns, those of them that are the weight, pieces.
fn launch_sum(
    gpu: &Gpu,
    [to, columns, from, pieces]: [usize; 4],
    partial: u64,
    [weight, bias]: [u64; 2],
) -> Result<()> {
    let sizes = [to, columns, from, pieces].map(int);
    let addresses = [partial, weight, bias].map(Arg::Address);
    let extent = vectors((to * columns).div_ceil(32) * VECTOR_THREADS);
    gpu.launch(&FOURIER_LAYER, "fourier_mix_sum", extent, &[&sizes[..], &addresses].concat())
}

pub(super) fn gate_gradient(
    gpu: &Gpu,
    (samples, channels, points): (usize, usize, usize),
    v: &mut Array,
    g: &mut Array,
    (gradient, gate): (&mut Array, usize),
) -> Result<()> {
    let to = gradient.device_inout(gpu)? + 4 * gate as u64;
    let [v, g] = [v.device_in(gpu)?, g.device_in(gpu)?];
    let args = [&[samples, channels, points].map(int)[..], &[v, g, to].map(Arg::Address)].concat();
    gpu.launch(&FOURIER_LAYER, "fourier_gate_gradient", vectors(channels * VECTOR_THREADS), &args)
}

/// y = u x along an axis, `x` `[outer, from, inner]`; back: the adjoint, from `[outer, to, inner]`.
pub(super) fn factor(gpu: &Gpu, along: Along, back: bool, u: u64, [x, y]: [u64; 2]) -> Result<()> {
    let Along { outer, to, from, inner } = along;
    let (kernel, [to, from]) = if back { ("fourier_factor_back", [from, to]) } else { ("fourier_factor", [to, from]) };
    let args = [&[outer, to, from, inner].map(int)[..], &[u, x, y].map(Arg::Address)].concat();
    gpu.launch(&FOURIER_LAYER, kernel, tiled(to.div_ceil(32) * (outer * inner).div_ceil(32)), &args)
}

/// ∂/∂u of it, for `g` `[outer, to, inner]`.
pub(super) fn factor_gradient(
    gpu: &Gpu,
    along: Along,
    [g, x]: [u64; 2],
    (du, scratch): (u64, &mut Scratch),
) -> Result<()> {
    let Along { outer, to, from, inner } = along;
    let pieces = (outer * inner).div_ceil(PIECE);
    let partial = scratch.at_least(gpu, 8 * pieces * to * from)?;
    let sizes = [outer, to, from, inner, PIECE].map(int);
    let tiles = from.div_ceil(32) * to.div_ceil(32);
    let args = [&sizes[..], &[g, x, partial].map(Arg::Address)].concat();
    gpu.launch(&FOURIER_LAYER, "fourier_factor_gradient", tiled(pieces * tiles), &args)?;
    launch_sum(gpu, [to, 2 * from, 2 * from, pieces], partial, [du, 0])
}

/// A tensor `[pair, mode, re | im]` as matrices `[mode, re | im, pair]`; back: the other way round.
pub(super) fn arrange(gpu: &Gpu, (pairs, modes): (usize, usize), back: bool, [from, to]: [u64; 2]) -> Result<()> {
    let kernel = if back { "fourier_tensor_of_matrices" } else { "fourier_matrices_of_tensor" };
    let args = [int(pairs), int(modes), Arg::Address(from), Arg::Address(to)];
    gpu.launch(&FOURIER_LAYER, kernel, looping(pairs * modes), &args)
}

/// Coefficients of fields: the last axis, then the others from the one before it to the first.
pub(super) fn analysis(gpu: &Gpu, t: &mut Transform, scale: Scale, x: &mut Array, y: &mut Array) -> Result<()> {
    let (points, kept) = (t.points().to_vec(), t.extents());
    let last = points.len() - 1;
    let (fields, n, width) = (x.len() / t.size(), points[last], 2 * kept[last]);
    let rows = fields * t.size() / n;
    let out = y.device_out(gpu)?;
    let mut to = if last == 0 { out } else { t.between[0].at_least(gpu, 4 * rows * width)? };
    let matrix = t.last[scale as usize].device_in(gpu)?;
    let args =
        [long(rows), int(n), int(width), Arg::Address(x.device_in(gpu)?), Arg::Address(matrix), Arg::Address(to)];
    gpu.launch(&FOURIER_LAYER, "fourier_last_axis", tiled(rows.div_ceil(64) * width.div_ceil(32)), &args)?;
    for axis in (0..last).rev() {
        let from = to;
        let outer = fields * points[..axis].iter().product::<usize>();
        let inner: usize = kept[axis + 1..].iter().product();
        to = match axis {
            0 => out,
            _ => t.between[1].at_least(gpu, 8 * outer * kept[axis] * inner)?,
        };
        let shape = (outer, kept[axis], points[axis], inner);
        launch_axis(gpu, "fourier_axis", shape, t.others[axis].device_in(gpu)?, (from, to))?;
    }
    Ok(())
}

/// The end of a layer: the first axis of a synthesis, then the others, the last one together with the pointwise map and what comes after.
#[allow(clippy::too_many_arguments)]
pub(super) fn layer(
    gpu: &Gpu,
    t: &mut Transform,
    scale: Scale,
    (samples, channels): (usize, usize),
    y: &mut Array,
    pointwise: Option<Pointwise<'_>>,
    after: After<'_>,
    out: &mut Array,
) -> Result<()> {
    let (points, kept) = (t.points().to_vec(), t.extents());
    let last = points.len() - 1;
    let fields = samples * channels;
    let mut from = y.device_in(gpu)?;
    for axis in 0..last {
        let outer = fields * points[..axis].iter().product::<usize>();
        let inner: usize = kept[axis + 1..].iter().product();
        let to = t.between[axis % 2].at_least(gpu, 8 * outer * points[axis] * inner)?;
        let shape = (outer, points[axis], kept[axis], inner);
        launch_axis(gpu, "fourier_axis_back", shape, t.others[axis].device_in(gpu)?, (from, to))?;
        from = to;
    }
    let lines = Lines { samples, lines: points[..last].iter().product(), points: points[last] };
    let matrix = t.last[scale as usize].device_in(gpu)?;
    let spectral = Spectral { coefficients: from, matrix, width: 2 * kept[last] };
    launch_mix(gpu, &lines, channels, Some(spectral), pointwise, after, out)
}

fn launch_axis(
    gpu: &Gpu,
    kernel: &'static str,
    (outer, to, from, inner): (usize, usize, usize, usize),
    matrix: u64,
    (x, y): (u64, u64),
) -> Result<()> {
    let args = [long(outer), int(to), int(from), int(inner), Arg::Address(matrix), Arg::Address(x), Arg::Address(y)];
    gpu.launch(&FOURIER_LAYER, kernel, tiled(to.div_ceil(32) * (outer * inner).div_ceil(32)), &args)
}

/// Blocks of products by mode: modes, then tiles of channels and of samples.
fn by_mode(modes: usize, columns: usize, rows: usize) -> Extent {
    Extent { grid: [blocks(modes), blocks(columns), blocks(rows)], block: [THREADS, 1, 1], shared_bytes: 0 }
}

pub(super) fn mode_product(
    gpu: &Gpu,
    m: &Modes,
    samples: usize,
    back: bool,
    parameters: &mut Array,
    x: &mut Array,
    y: &mut Array,
) -> Result<()> {
    let args = [
        int(samples),
        int(m.from),
        int(m.to),
        int(m.modes),
        Arg::Address(x.device_in(gpu)?),
        Arg::Address(parameters.device_in(gpu)? + 4 * m.weight as u64),
        Arg::Address(y.device_out(gpu)?),
    ];
    let (kernel, go) = if back { ("fourier_mode_product_back", m.from) } else { ("fourier_mode_product", m.to) };
    gpu.launch(&FOURIER_LAYER, kernel, by_mode(m.modes, go.div_ceil(32), samples.div_ceil(16)), &args)
}

pub(super) fn mode_gradient(
    gpu: &Gpu,
    m: &Modes,
    samples: usize,
    x: &mut Array,
    g: &mut Array,
    gradient: &mut Array,
) -> Result<()> {
    let args = [
        int(samples),
        int(m.from),
        int(m.to),
        int(m.modes),
        Arg::Address(x.device_in(gpu)?),
        Arg::Address(g.device_in(gpu)?),
        Arg::Address(gradient.device_inout(gpu)? + 4 * m.weight as u64),
    ];
    let extent = by_mode(m.modes, m.to.div_ceil(32), m.from.div_ceil(32));
    gpu.launch(&FOURIER_LAYER, "fourier_mode_gradient", extent, &args)
}

pub(super) fn resize(
    gpu: &Gpu,
    planes: usize,
    (from, to): (&[usize], &[usize]),
    x: &mut Array,
    y: &mut Array,
) -> Result<()> {
    // Axes that are not there have one point.
    let three = |points: &[usize]| {
        let mut all = [1; 3];
        all[3 - points.len()..].copy_from_slice(points);
        all.map(int)
    };
    let ([a0, a1, a2], [b0, b1, b2]) = (three(from), three(to));
    let args = [int(planes), a0, a1, a2, b0, b1, b2, Arg::Address(x.device_in(gpu)?), Arg::Address(y.device_out(gpu)?)];
    gpu.launch(&FOURIER_LAYER, "fourier_resize", looping(y.len()), &args)
}

/// Norms of error and target of each sample; derivatives of their quotients.
pub(super) fn relative_l2(
    gpu: &Gpu,
    (samples, size, each): (usize, usize, usize),
    scale: f32,
    (mean, deviation): (&mut Array, &mut Array),
    [scratch, result]: &mut [Scratch; 2],
    (output, target): (&mut Array, &mut Array),
    slope: &mut Array,
) -> Result<Vec<[f64; 2]>> {
    let pieces = size.div_ceil(LOSS_PIECE);
    let partial = scratch.at_least(gpu, 16 * samples * pieces)?;
    let norms = result.exactly(gpu, 16 * samples)?;
    let data = [output.device_in(gpu)?, target.device_in(gpu)?, mean.device_in(gpu)?, deviation.device_in(gpu)?];
    let data = data.map(Arg::Address);
    let head = [int(size), int(each), int(LOSS_PIECE)];
    let args = [&head[..], &data, &[Arg::Address(partial)]].concat();
    gpu.launch(&FOURIER_LAYER, "fourier_loss_sums", vectors(samples * pieces * VECTOR_THREADS), &args)?;
    let args = [int(samples), int(pieces), Arg::Address(partial), Arg::Address(norms)];
    gpu.launch(&FOURIER_LAYER, "fourier_loss_norms", vectors(samples), &args)?;
    let head = [int(samples), int(size), int(each), Arg::F32(scale)];
    let args = [&head[..], &data, &[Arg::Address(norms), Arg::Address(slope.device_out(gpu)?)]].concat();
    gpu.launch(&FOURIER_LAYER, "fourier_loss_slopes", looping(samples * size), &args)?;
    let mut pairs = vec![[0.0; 2]; samples];
    result.download(bytemuck::cast_slice_mut(&mut pairs))?;
    Ok(pairs)
}

pub(super) fn adamw(
    gpu: &Gpu,
    how: AdamW,
    gradient: &mut Array,
    [first, second]: [&mut Array; 2],
    parameters: &mut Array,
) -> Result<()> {
    let [keep, size, root] = how.factors().map(|v| Arg::F32(v as f32));
    let [beta1, beta2] = how.beta.map(|v| Arg::F32(v as f32));
    let args = [
        long(parameters.len()),
        keep,
        size,
        root,
        beta1,
        beta2,
        Arg::F32(how.epsilon as f32),
        Arg::Address(gradient.device_in(gpu)?),
        Arg::Address(first.device_inout(gpu)?),
        Arg::Address(second.device_inout(gpu)?),
        Arg::Address(parameters.device_inout(gpu)?),
    ];
    gpu.launch(&FOURIER_LAYER, "fourier_adamw", looping(parameters.len()), &args)
}
