//! The result file: named arrays with axes and units, written by rank 0 as the parts arrive.

use std::collections::HashSet;
use std::path::Path;

use convoke_data::formats::vtkhdf::{self, Image};
use convoke_data::schema;
use convoke_data::store::{Digest, Element, Layout, Writer};

use crate::comm::Comm;
use crate::error::Result;
use crate::pieces::Pieces;
use crate::shard::Region;

/// Rows travel to rank 0 in messages of about this many bytes.
const MESSAGE: usize = 16 << 20;

/// An axis of an array: where its first sample lies and how far apart they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Name, such as `z`.
    pub name: String,
    /// Unit, such as `mm`.
    pub unit: String,
    /// Coordinate of the first sample.
    pub origin: f64,
    /// Distance between samples.
    pub spacing: f64,
}

/// What an array is, for people and for the programs that open the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Meaning {
    /// One line for a plot's label.
    pub long_name: String,
    /// Unit of the values.
    pub unit: String,
    /// The axes, slowest first.
    pub axes: Vec<Axis>,
}

/// Writes `/result` of a run; [`crate::Workload::finish`] fills it.
#[derive(Debug)]
pub struct Results {
    comm: Comm,
    writer: Option<Writer>,
    /// Coordinates written so far.
    scales: HashSet<String>,
}

impl Results {
    /// Starts the file on rank 0. Collective.
    ///
    /// # Errors
    /// Data errors: the directory cannot be written.
    pub fn create(comm: &Comm, path: &Path) -> Result<Self> {
        let writer = if comm.is_root() { Writer::create(path).map(Some) } else { Ok(None) };
        let writer = comm.agree(writer.map_err(Into::into))?;
        Ok(Self { comm: comm.clone(), writer, scales: HashSet::new() })
    }

    /// Whether this rank writes the file.
    pub fn is_root(&self) -> bool {
        self.comm.is_root()
    }

    /// Writes `/result/<name>` of global `shape` from the parts that the ranks hold; replicas say
    /// `owned = false`. A 3-D array also becomes a VTKHDF image. Collective.
    ///
    /// # Errors
    /// Data errors of writing, on every rank.
    pub fn array<T: Element>(
        &mut self,
        name: &str,
        shape: &[usize],
        (region, owned): (Region, bool),
        data: &[T],
        meaning: &Meaning,
    ) -> Result<()> {
        let parts = [(region, data)];
        self.array_of_parts(name, shape, if owned { &parts } else { &[] }, meaning)
    }

    /// As [`Results::array`], from any number of parts on each rank.
    ///
    /// # Errors
    /// As [`Results::array`].
    pub fn array_of_parts<T: Element>(
        &mut self,
        name: &str,
        shape: &[usize],
        parts: &[(Region, &[T])],
        meaning: &Meaning,
    ) -> Result<()> {
        let declared = self.declare::<T>(name, shape, meaning);
        self.comm.agree(declared)?;
        let mine: Vec<&Region> = parts.iter().map(|(region, _)| region).collect();
        let mine = serde_json::to_vec(&mine).expect("plain data");
        let mut offers: Vec<(usize, usize, Region)> = Vec::new();
        for (rank, bytes) in self.comm.all_gather(&mine)?.iter().enumerate() {
            let regions: Vec<Region> = serde_json::from_slice(bytes).expect("plain data");
            offers.extend(regions.into_iter().enumerate().map(|(i, region)| (rank, i, region)));
        }
        let mut written = Ok(());
        for (rank, i, region) in offers.iter().filter(|(_, _, region)| !region.is_empty()) {
            let (rank, data) = (*rank, parts.get(*i).map_or(&[] as &[T], |(_, data)| data));
            for slab in slabs(region) {
                if self.comm.rank() == rank && rank != 0 {
                    let start = (slab.start[0] - region.start[0]) * (region.len() / region.count[0]);
                    self.comm.send(0, &data[start..start + slab.len()])?;
                }
                if !self.comm.is_root() {
                    continue;
                }
                let mut received = Vec::new();
                let rows = if rank == 0 {
                    let start = (slab.start[0] - region.start[0]) * (region.len() / region.count[0]);
                    &data[start..start + slab.len()]
                } else {
                    received.resize(slab.len(), T::zeroed());
                    self.comm.recv_into(rank, &mut received)?;
                    &received
                };
                // After a failure the rest is still received, so that no rank waits for ever.
                if written.is_ok() {
                    written = self.write(name, &slab, rows);
                }
            }
        }
        self.comm.agree(written)
    }

    /// As [`Results::array`], from the pieces of a result that never was in memory as a whole.
    ///
    /// # Errors
    /// As [`Results::array`]; [`crate::Error::Restore`] for missing or damaged pieces.
    pub fn from_pieces(&mut self, name: &str, shape: &[usize], pieces: &Pieces, meaning: &Meaning) -> Result<()> {
        let done = if self.comm.is_root() { self.copy_pieces(name, shape, pieces, meaning) } else { Ok(()) };
        self.comm.agree(done)
    }

    fn copy_pieces(&mut self, name: &str, shape: &[usize], pieces: &Pieces, meaning: &Meaning) -> Result<()> {
        self.declare::<f32>(name, shape, meaning)?;
        for (piece, take) in pieces.cover(name, shape[0])? {
            piece.verify()?;
            for slab in slabs(&Region::rows(shape, take)) {
                let rows = piece.read(slab.start[0]..slab.start[0] + slab.count[0])?;
                self.write(name, &slab, &rows)?;
            }
        }
        Ok(())
    }

    fn declare<T: Element>(&mut self, name: &str, shape: &[usize], meaning: &Meaning) -> Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let path = schema::result(name);
        writer.dataset::<T>(&path, shape, Layout::Contiguous)?;
        let axes: Vec<&str> = meaning.axes.iter().map(|a| a.name.as_str()).collect();
        writer.attribute(&path, schema::field::AXES, axes.join(":").as_str())?;
        writer.attribute(&path, schema::field::UNITS, meaning.unit.as_str())?;
        writer.attribute(&path, schema::field::LONG_NAME, meaning.long_name.as_str())?;
        writer.attribute(&path, "spacing", meaning.axes.iter().map(|a| a.spacing).collect::<Vec<f64>>())?;
        writer.attribute(&path, "origin", meaning.axes.iter().map(|a| a.origin).collect::<Vec<f64>>())?;
        for (axis, info) in meaning.axes.iter().enumerate() {
            let scale = schema::result(&info.name);
            if self.scales.insert(scale.clone()) {
                self.coordinate(&scale, shape[axis], info)?;
            }
            let writer = self.writer.as_mut().expect("only rank 0 declares");
            writer.scale(&path, axis, &scale, &info.name)?;
        }
        Ok(())
    }

    fn coordinate(&mut self, path: &str, n: usize, axis: &Axis) -> Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let values: Vec<f64> = (0..n).map(|i| axis.origin + axis.spacing * i as f64).collect();
        writer.whole(path, &[n], &values)?;
        writer.attribute(path, schema::field::UNITS, axis.unit.as_str())?;
        Ok(())
    }

    fn write<T: Element>(&mut self, name: &str, slab: &Region, rows: &[T]) -> Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        Ok(writer.write(&schema::result(name), &slab.start, &slab.count, rows)?)
    }

    /// Writes a series that every rank holds as `/result/<name>`.
    ///
    /// # Errors
    /// Data errors of writing, on every rank.
    pub fn series(&mut self, name: &str, values: &[f64], unit: &str, long_name: &str) -> Result<()> {
        let mut write = || {
            let Some(writer) = &mut self.writer else { return Ok(()) };
            let path = schema::result(name);
            writer.whole(&path, &[values.len()], values)?;
            writer.attribute(&path, schema::field::UNITS, unit)?;
            writer.attribute(&path, schema::field::LONG_NAME, long_name)
        };
        let written = write();
        self.comm.agree(written.map_err(Into::into))
    }

    /// Has an array that was written drawn as curves: its rows over the series `over`, with intervals.
    ///
    /// # Errors
    /// Data errors of writing, on every rank.
    pub fn chart(&mut self, name: &str, over: &str, rows: &str, interval: Option<(&str, &str)>) -> Result<()> {
        let mut write = || {
            let Some(writer) = &mut self.writer else { return Ok(()) };
            let path = schema::result(name);
            writer.attribute(&path, schema::chart::OVER, over)?;
            writer.attribute(&path, schema::chart::SERIES, rows)?;
            if let Some((low, high)) = interval {
                writer.attribute(&path, schema::chart::LOW, low)?;
                writer.attribute(&path, schema::chart::HIGH, high)?;
            }
            Ok(())
        };
        let written: convoke_data::Result<()> = write();
        self.comm.agree(written.map_err(Into::into))
    }

    /// Records a figure about the results as an attribute of `/result`.
    ///
    /// # Errors
    /// Data errors of writing, on every rank.
    pub fn figure(&mut self, name: &str, value: f64) -> Result<()> {
        let written = match &mut self.writer {
            Some(writer) => writer.group(schema::RESULT).and_then(|()| writer.attribute(schema::RESULT, name, value)),
            None => Ok(()),
        };
        self.comm.agree(written.map_err(Into::into))
    }

    /// Records words about the results as an attribute of `/result`.
    ///
    /// # Errors
    /// Data errors of writing, on every rank.
    pub fn text(&mut self, name: &str, value: &str) -> Result<()> {
        let written = match &mut self.writer {
            Some(writer) => writer.group(schema::RESULT).and_then(|()| writer.attribute(schema::RESULT, name, value)),
            None => Ok(()),
        };
        self.comm.agree(written.map_err(Into::into))
    }

    /// Makes a 3-D array visible to ParaView in the same file (VTKHDF ImageData).
    ///
    /// # Errors
    /// Data errors of writing, on every rank.
    pub fn image(&mut self, name: &str, shape: [usize; 3], meaning: &Meaning) -> Result<()> {
        let backwards = |of: fn(&Axis) -> f64| [2, 1, 0].map(|axis: usize| of(&meaning.axes[axis]));
        let image = Image { shape, origin: backwards(|a| a.origin), spacing: backwards(|a| a.spacing) };
        let written = self.writer.as_mut().map_or(Ok(()), |writer| vtkhdf::describe(writer, &image, &[name]));
        self.comm.agree(written.map_err(Into::into))
    }

    /// Rank 0's writer, for the frame's own groups.
    pub(crate) fn writer(&mut self) -> Option<&mut Writer> {
        self.writer.as_mut()
    }

    /// Puts the finished file in place. Collective.
    ///
    /// # Errors
    /// Data errors: what was written does not read back, or the disk is full.
    pub fn commit(self) -> Result<Option<Digest>> {
        let done = self.writer.map(Writer::commit_replace).transpose();
        self.comm.agree(done.map_err(Into::into))
    }
}

/// A region cut along its first axis into messages.
fn slabs(region: &Region) -> Vec<Region> {
    let row = region.len() / region.count[0].max(1);
    let rows = (MESSAGE / 8 / row.max(1)).max(1);
    let end = region.start[0] + region.count[0];
    (region.start[0]..end).step_by(rows).map(|first| region.clone().with(0, first..end.min(first + rows))).collect()
}
