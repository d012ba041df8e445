//! Samples of many streams of a small space at once, on a GPU.

use std::collections::HashMap;

use convoke_kernels::determinantal::{MAX_POINTS, Samples};
use convoke_kernels::{Buffer, Device, KernelError};
use faer::MatMut;
use rayon::prelude::*;

use super::error::DesignError;
use super::sampler::{Blocks, Sample};
use super::source::{Pick, Universe};
use super::space::Space;
use super::stream::Stream;

/// Samples of one launch: their tables stay below some hundred megabytes.
const TOGETHER: usize = 512;
/// Launches after which a sample that is not complete is left to the processor, which says why.
const ROUNDS: u64 = 200;

/// A space, and samples of it that were drawn beforehand.
#[derive(Debug)]
pub struct Batch<'a> {
    space: &'a Space,
    known: HashMap<Stream, Vec<u64>>,
}

impl<'a> Batch<'a> {
    /// Whether a device can draw the samples of a space by the batch.
    pub fn suits(space: &Space, device: &Device) -> bool {
        device.is_gpu() && space.len() <= MAX_POINTS
    }

    /// The samples of `streams`.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn draw(space: &'a Space, device: &Device, streams: &[Stream]) -> Result<Self, KernelError> {
        let mut known = HashMap::new();
        let mut products = space.products(device)?;
        let (m, d, entries) = (space.len(), space.dimension(), products.entries());
        for streams in streams.chunks(TOGETHER) {
            let mut samples = Samples::new(&products, streams.len())?;
            let mut accepted = vec![Vec::new(); streams.len()];
            for round in 0..ROUNDS {
                let first = round * m as u64;
                let (mut tables, mut uniforms) = (vec![0.0; streams.len() * m * entries], vec![0.0; streams.len() * m]);
                let parts = tables.par_chunks_mut(m * entries).zip(uniforms.par_chunks_mut(m));
                parts.zip(streams).zip(&accepted).for_each(|(((table, uniform), stream), accepted)| {
                    // A complete sample looks at nothing.
                    if accepted.len() == m {
                        return;
                    }
                    let mut points = vec![0.0; m * d];
                    for (b, x) in points.chunks_mut(d).enumerate() {
                        space.draw(stream, first + b as u64, x);
                        uniform[b] = stream.choices(first + b as u64).0;
                    }
                    space.tables(&points, table);
                });
                let mut tables = Buffer::from_vec(device, tables)?;
                samples.advance(&mut products, first, &mut tables, &mut Buffer::from_vec(device, uniforms)?)?;
                accepted = samples.accepted()?;
                if accepted.iter().all(|list| list.len() == m) {
                    break;
                }
            }
            known.extend(streams.iter().copied().zip(accepted).filter(|(_, list)| list.len() == m));
        }
        Ok(Self { space, known })
    }

    /// The accepted candidates of a stream.
    pub fn known(&self, stream: &Stream) -> Option<&[u64]> {
        self.known.get(stream).map(Vec::as_slice)
    }
}

impl Universe for Batch<'_> {
    fn functions(&self) -> usize {
        self.space.len()
    }

    fn sample(&self, stream: Stream, blocks: Blocks) -> Result<Sample, DesignError> {
        match self.known.get(&stream) {
            Some(accepted) => {
                let proposals = accepted.last().map_or(0, |t| t + 1);
                Ok(Sample { accepted: accepted.clone(), proposals, flops: 0.0 })
            }
            None => self.space.sample(stream, blocks),
        }
    }

    fn rows(&self, picks: &[Pick], out: MatMut<'_, f64>) -> Result<Vec<f64>, DesignError> {
        self.space.rows(picks, out)
    }
}
