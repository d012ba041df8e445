//! What travels between ranks, and how it is cut and joined: an all-to-all in chunks, of which one is on its way while the
//! next is computed and the one before is worked on.

use std::ops::Range;

use convoke_cluster::{Comm, Result};
use convoke_kernels::kronecker::{pack, unpack};
use convoke_kernels::{Buffer, Device};

/// Cuts every line into `ranges` and puts those of each range together, on the device; messages are sent from the host.
/// Ranges follow on each other.
///
/// # Errors
/// Where the device fails.
pub fn deal(device: &Device, mut values: Buffer<f64>, line: usize, ranges: &[Range<usize>]) -> Result<Vec<f64>> {
    if values.is_empty() || ranges.iter().any(|r| r.len() == line) {
        return Ok(values.into_vec()); // one range has it all
    }
    let mut packed = Buffer::zeros(device, values.len())?;
    pack(device, (values.len() / line, line, 1), ranges, &mut values, &mut packed)?;
    Ok(packed.into_vec())
}

/// The way back of [`deal`].
///
/// # Errors
/// Where the device fails.
pub fn interleave(device: &Device, values: Vec<f64>, line: usize, ranges: &[Range<usize>]) -> Result<Buffer<f64>> {
    let mut packed = Buffer::from_vec(device, values)?;
    if packed.is_empty() || ranges.iter().any(|r| r.len() == line) {
        return Ok(packed);
    }
    let mut values = Buffer::zeros(device, packed.len())?;
    unpack(device, (packed.len() / line, line, 1), ranges, &mut packed, &mut values)?;
    Ok(values)
}

/// Consecutive parts of these lengths.
fn cut<'a>(mut values: &'a [f64], lengths: &[usize]) -> Vec<&'a [f64]> {
    let mut parts = Vec::new();
    for n in lengths {
        let (part, rest) = values.split_at(*n);
        parts.push(part);
        values = rest;
    }
    parts
}

fn cut_mut<'a>(mut values: &'a mut [f64], lengths: &[usize]) -> Vec<&'a mut [f64]> {
    let mut parts = Vec::new();
    for n in lengths {
        let (part, rest) = values.split_at_mut(*n);
        parts.push(part);
        values = rest;
    }
    parts
}

/// An all-to-all of consecutive parts whose lengths both sides know.
///
/// # Errors
/// Where another rank fails.
pub fn swap(comm: &Comm, values: &[f64], sent: &[usize], due: &[usize]) -> Result<Vec<f64>> {
    let mut received = vec![0.0; due.iter().sum()];
    comm.exchange(&cut(values, sent), &mut cut_mut(&mut received, due), || ())?;
    Ok(received)
}

/// `chunks` all-to-alls: `make` computes what is sent in one, `take` works on what arrived. While a chunk travels, the
/// next is made and the one before is taken. `lengths` says what a chunk sends to each rank and gets from each. Collective.
///
/// # Errors
/// Where `make` or `take` fails, or another rank.
pub fn pipeline(
    comm: &Comm,
    chunks: usize,
    lengths: &dyn Fn(usize) -> (Vec<usize>, Vec<usize>),
    make: &mut dyn FnMut(usize) -> Result<Vec<f64>>,
    take: &mut dyn FnMut(usize, Vec<f64>) -> Result<()>,
) -> Result<()> {
    let mut made = make(0)?;
    let mut arrived: Option<Vec<f64>> = None;
    for k in 0..chunks {
        let (sent, due) = lengths(k);
        let mut received = vec![0.0; due.iter().sum()];
        let (mut next, mut taken) = (Ok(Vec::new()), Ok(()));
        let before = arrived.take();
        comm.exchange(&cut(&made, &sent), &mut cut_mut(&mut received, &due), || {
            if k + 1 < chunks {
                next = make(k + 1);
            }
            if let Some(before) = before {
                taken = take(k - 1, before);
            }
        })?;
        taken?;
        made = next?;
        arrived = Some(received);
    }
    take(chunks - 1, arrived.unwrap_or_default())
}
