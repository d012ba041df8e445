//! Writing: slabs into a temporary file, then one verified commit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hdf5::dataset::FillTime;
use hdf5::{Dataset, File, Hyperslab, Location, Selection, SliceOrIndex};
use ndarray::ArrayView1;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::attribute::{self, Attribute};
use super::element::Element;
use super::scales::Scales;
use super::{Digest, digest_file, disk};
use crate::{DataError, Result, failpoint};

/// Bytes that one step of the read-back holds in memory.
const VERIFY_BLOCK: usize = 4 << 20;
/// Slabs of at least so many bytes are hashed by a thread of their own.
const HASHED_BESIDE: usize = 4 << 20;
/// Level of gzip: higher levels cost much time for few bytes on float fields.
const DEFLATE_LEVEL: u8 = 4;

/// How a dataset lies in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One block, the fastest to write and read.
    Contiguous,
    /// Blocks of shape `chunk` (cut to the dataset's shape). Write whole chunks.
    Chunked {
        /// Elements per axis; 1 to 4 MiB per chunk is a good size.
        chunk: Vec<usize>,
        /// Shuffle + gzip, which every HDF5 reader understands.
        deflate: bool,
    },
}

/// A dataset, how to hash a slab of it, and the slabs that were written.
type Declared = (String, fn(&Dataset, &Slab) -> hdf5::Result<u128>, Vec<Slab>);

/// A new HDF5 file under a temporary name next to its target. Dropped without a commit, it
/// leaves nothing behind and the target is as before.
#[derive(Debug)]
pub struct Writer {
    file: Option<File>,
    path: PathBuf,
    temporary: PathBuf,
    datasets: BTreeMap<String, Written>,
    /// Number of texts of each dataset of texts.
    columns_of_text: BTreeMap<String, usize>,
    attributes: BTreeMap<(String, String), Attribute>,
    scales: Scales,
}

/// What is known of a dataset that is being written.
#[derive(Debug)]
struct Written {
    dataset: Dataset,
    shape: Vec<usize>,
    /// Hash of a slab as it lies in the file, for the element type it was declared with.
    read_back: fn(&Dataset, &Slab) -> hdf5::Result<u128>,
    dtype: super::Dtype,
    slabs: Vec<Slab>,
}

/// A box of a dataset and the XXH3-128 of the bytes that were handed in for it.
#[derive(Debug)]
struct Slab {
    start: Vec<usize>,
    count: Vec<usize>,
    hash: u128,
}

impl Writer {
    /// Starts a file for `path` in the oldest format that fits, which other programs read best.
    ///
    /// # Errors
    /// The folder is missing, read-only or full.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        Self::create_as(path.as_ref(), false)
    }

    /// Starts a file in the library's latest format, whose metadata carry checksums: for
    /// checkpoints, which only we read.
    ///
    /// # Errors
    /// As [`Writer::create`].
    pub fn create_latest(path: impl AsRef<Path>) -> Result<Self> {
        Self::create_as(path.as_ref(), true)
    }

    fn create_as(path: &Path, latest: bool) -> Result<Self> {
        let temporary = disk::temporary_sibling(path)?;
        failpoint::file("create").map_err(|source| DataError::from_io(path, "create the file", source))?;
        let mut options = super::unlocked();
        if latest {
            options.with_fapl(|fapl| fapl.libver_latest());
        }
        let file =
            options.create_excl(&temporary).map_err(|error| DataError::from_hdf5(path, "create the file", &error))?;
        Ok(Self {
            file: Some(file),
            path: path.to_path_buf(),
            temporary,
            datasets: BTreeMap::new(),
            columns_of_text: BTreeMap::new(),
            attributes: BTreeMap::new(),
            scales: Scales::default(),
        })
    }

    /// Where the file will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Elements per axis of a declared dataset.
    ///
    /// # Errors
    /// It was not declared.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        let name = absolute(name);
        match self.datasets.get(&name) {
            Some(written) => Ok(&written.shape),
            None => Err(self.undeclared(name)),
        }
    }

    /// Makes the group `name` and its parents; an existing group is fine.
    ///
    /// # Errors
    /// A dataset is in the way, or the disk is full.
    pub fn group(&mut self, name: &str) -> Result<()> {
        let name = absolute(name);
        let mut so_far = String::new();
        for part in name.split('/').filter(|part| !part.is_empty()) {
            so_far = format!("{so_far}/{part}");
            if !self.file().link_exists(&so_far) {
                self.file().create_group(&so_far).map_err(self.failed("create a group"))?;
            }
        }
        Ok(())
    }

    /// Declares dataset `name` of `shape` and element type `T`; its groups are made. Every
    /// element must be written before the commit.
    ///
    /// # Errors
    /// The name exists, the chunk has another number of axes, or the disk is full.
    pub fn dataset<T: Element>(&mut self, name: &str, shape: &[usize], layout: Layout) -> Result<()> {
        let name = absolute(name);
        if let Some((parent, _)) = name.rsplit_once('/') {
            self.group(parent)?;
        }
        // Without times, equal data make equal bytes.
        let mut builder = self.file().new_dataset_builder().obj_track_times(false);
        match layout {
            Layout::Chunked { chunk, deflate } if !shape.contains(&0) && !shape.is_empty() => {
                if chunk.len() != shape.len() || chunk.contains(&0) {
                    return Err(DataError::ShapeMismatch {
                        path: self.path.clone(),
                        name,
                        found: chunk,
                        expected: format!("a chunk of {} axes, none of length 0", shape.len()),
                    });
                }
                let chunk: Vec<usize> = chunk.iter().zip(shape).map(|(&c, &n)| c.min(n)).collect();
                builder = builder.chunk(chunk).fill_time(FillTime::Never);
                if deflate {
                    builder = builder.shuffle().deflate(DEFLATE_LEVEL);
                }
            }
            _ => builder = builder.no_chunk(),
        }
        let dataset =
            builder.empty::<T>().shape(shape).create(name.as_str()).map_err(self.failed("create a dataset"))?;
        let written =
            Written { dataset, shape: shape.to_vec(), read_back: read_back::<T>, dtype: T::DTYPE, slabs: Vec::new() };
        self.datasets.insert(name, written);
        Ok(())
    }

    /// Writes `values` (row-major, shape `count`) at `start` of dataset `name`. Slabs must not
    /// overlap; the same slab may be written again.
    ///
    /// # Errors
    /// The dataset was not declared or has another type, the slab is outside or overlaps another,
    /// the number of values differs, or the disk is full.
    pub fn write<T: Element>(&mut self, name: &str, start: &[usize], count: &[usize], values: &[T]) -> Result<()> {
        let name = absolute(name);
        let path = self.path.clone();
        let failed = self.failed("write a dataset");
        let Some(written) = self.datasets.get_mut(&name) else {
            return Err(self.undeclared(name));
        };
        if written.dtype != T::DTYPE {
            let expected = written.dtype.to_string();
            return Err(DataError::WrongType { path, name, found: T::DTYPE.to_string(), expected });
        }
        check_bounds(&path, &name, start, count, &written.shape)?;
        if values.len() != count.iter().product::<usize>() {
            let expected = format!("{} values for count {count:?}", count.iter().product::<usize>());
            return Err(DataError::ShapeMismatch { path, name, found: vec![values.len()], expected });
        }
        failpoint::file("write").map_err(|source| DataError::from_io(&path, "write a dataset", source))?;
        let mut slab = Slab { start: start.to_vec(), count: count.to_vec(), hash: 0 };
        let again = written.slabs.iter().position(|old| old.start == start && old.count == count);
        if again.is_none() && written.slabs.iter().any(|old| old.overlaps(&slab)) {
            return Err(DataError::Overlap { path, name, start: slab.start, count: slab.count });
        }
        let write = || {
            let view = ArrayView1::from(values);
            match written.shape.len() {
                _ if values.is_empty() => Ok(()),
                0 => written.dataset.write_raw(view),
                _ => view
                    .into_shape_with_order(count)
                    .map_err(hdf5::Error::from)
                    .and_then(|view| written.dataset.write_slice(view, slab.selection())),
            }
        };
        let bytes: &[u8] = bytemuck::cast_slice(values);
        // Both are bound by memory and copying: large slabs are hashed while they are written.
        let (hash, done) = if bytes.len() < HASHED_BESIDE {
            (Ok(xxh3_128(bytes)), write())
        } else {
            std::thread::scope(|threads| {
                let hash = threads.spawn(|| xxh3_128(bytes));
                let done = write();
                (hash.join(), done)
            })
        };
        done.map_err(&failed)?;
        slab.hash = hash.map_err(|_| failed("the thread that hashes panicked".into()))?;
        match again {
            Some(old) => written.slabs[old] = slab,
            None => written.slabs.push(slab),
        }
        Ok(())
    }

    /// Declares dataset `name` contiguous and writes all of it.
    ///
    /// # Errors
    /// As [`Writer::dataset`] and [`Writer::write`].
    pub fn whole<T: Element>(&mut self, name: &str, shape: &[usize], values: &[T]) -> Result<()> {
        self.dataset::<T>(name, shape, Layout::Contiguous)?;
        self.write(name, &vec![0; shape.len()], shape, values)
    }

    /// Writes a text as scalar dataset `name` (attributes hold at most 64 KiB).
    ///
    /// # Errors
    /// The name exists, the text has a zero byte, or the disk is full.
    pub fn text(&mut self, name: &str, text: &str) -> Result<()> {
        let name = absolute(name);
        if let Some((parent, _)) = name.rsplit_once('/') {
            self.group(parent)?;
        }
        let failed = self.failed("write a text");
        let builder = self.file().new_dataset_builder().obj_track_times(false).no_chunk();
        attribute::unicode(text)
            .and_then(|value| {
                let dataset = builder.empty::<hdf5::types::VarLenUnicode>().create(name.as_str())?;
                dataset.write_scalar(&value)
            })
            .map_err(failed)
    }

    /// Writes texts as dataset `name` of one axis.
    ///
    /// # Errors
    /// As [`Writer::text`].
    pub fn texts<T: AsRef<str>>(&mut self, name: &str, texts: &[T]) -> Result<()> {
        let name = absolute(name);
        if let Some((parent, _)) = name.rsplit_once('/') {
            self.group(parent)?;
        }
        let failed = self.failed("write texts");
        let values: hdf5::Result<Vec<hdf5::types::VarLenUnicode>> =
            texts.iter().map(|text| attribute::unicode(text.as_ref())).collect();
        let builder = self.file().new_dataset_builder().obj_track_times(false).no_chunk();
        let written = values.and_then(|values| {
            let dataset = builder.empty::<hdf5::types::VarLenUnicode>().shape([texts.len()]).create(name.as_str())?;
            dataset.write_raw(&values)
        });
        written.map_err(failed)?;
        self.columns_of_text.insert(name, texts.len());
        Ok(())
    }

    /// Sets attribute `name` of `object` (`/` for the file itself).
    ///
    /// # Errors
    /// No such object, a text with a zero byte, a value over 64 KiB, or the disk is full.
    pub fn attribute(&mut self, object: &str, name: &str, value: impl Into<Attribute>) -> Result<()> {
        let (object, value) = (absolute(object), value.into());
        let failed = self.failed("write an attribute");
        location(self.file(), &object)
            .and_then(|location| attribute::write(&location, name, &value))
            .map_err(failed)?;
        self.attributes.insert((object, name.to_owned()), value);
        Ok(())
    }

    /// Gives the object `target` a second name (a hard link).
    ///
    /// # Errors
    /// No such object, or the name exists.
    pub fn link(&mut self, target: &str, name: &str) -> Result<()> {
        let (target, name) = (absolute(target), absolute(name));
        if let Some((parent, _)) = name.rsplit_once('/') {
            self.group(parent)?;
        }
        self.file().link_hard(&target, &name).map_err(self.failed("link an object"))
    }

    /// Makes the 1-D dataset `scale` the coordinate of axis `axis` of `dataset` (HDF5 dimension
    /// scale; xarray and netCDF read the coordinate and its `units`). `axis_name` is its name.
    ///
    /// # Errors
    /// One of the datasets was not declared, or their lengths differ.
    pub fn scale(&mut self, dataset: &str, axis: usize, scale: &str, axis_name: &str) -> Result<()> {
        let (dataset, scale) = (absolute(dataset), absolute(scale));
        let length = |name: &String, axis: usize| match self.datasets.get(name) {
            Some(written) => written.shape.get(axis).copied(),
            None => self.columns_of_text.get(name).copied().filter(|_| axis == 0),
        };
        match (length(&dataset, axis), length(&scale, 0)) {
            (Some(n), Some(m)) if n == m => {}
            (n, m) => {
                return Err(DataError::ShapeMismatch {
                    path: self.path.clone(),
                    name: scale,
                    found: m.into_iter().collect(),
                    expected: format!("the length of axis {axis} of {dataset}: {n:?}"),
                });
            }
        }
        let rank = self.datasets.get(&dataset).map_or(1, |written| written.shape.len());
        self.scales.attach(dataset, rank, axis, scale, axis_name);
        Ok(())
    }

    /// Finishes the file; refuses if the target exists.
    ///
    /// # Errors
    /// [`DataError::Exists`], and as [`Writer::commit_replace`].
    pub fn commit_new(self) -> Result<Digest> {
        self.commit(disk::rename_new)
    }

    /// Finishes the file and replaces the target, atomically.
    ///
    /// # Errors
    /// A dataset is not filled, the disk is full, or what was read back differs. The target is
    /// then as before.
    pub fn commit_replace(self) -> Result<Digest> {
        self.commit(disk::rename_over)
    }

    fn commit(mut self, rename: fn(&Path, &Path) -> Result<()>) -> Result<Digest> {
        for (name, written) in &self.datasets {
            let total = written.shape.iter().product();
            let done: usize = written.slabs.iter().map(|slab| slab.count.iter().product::<usize>()).sum();
            if done != total {
                let (path, name) = (self.path.clone(), name.clone());
                return Err(DataError::Incomplete { path, name, written: done, total });
            }
        }
        self.scales.write(self.file()).map_err(self.failed("write the dimension scales"))?;
        let declared = std::mem::take(&mut self.datasets)
            .into_iter()
            .map(|(name, written)| (name, written.read_back, written.slabs)) // closes the dataset
            .collect::<Vec<_>>();
        let failed = |source| DataError::from_io(&self.path, "write the file", source);
        failpoint::file("close").map_err(failed)?;
        let file = self.file.take().expect("a writer holds its file until the commit");
        let flushed = file.flush();
        let closed = file.close();
        flushed.and(closed).map_err(self.failed("close the file"))?;
        failpoint::file("sync").map_err(failed)?;
        // What is read back comes from the system's cache, synchronised or not: the disk works beside it, and the two
        // readings beside each other.
        let (synced, verified, digest) = std::thread::scope(|threads| {
            let synced = threads.spawn(|| std::fs::File::open(&self.temporary)?.sync_all());
            let digest = threads.spawn(|| digest_file(&self.temporary));
            let verified = failpoint::file("verify").map_err(failed).and_then(|()| self.verify(&declared));
            (synced.join(), verified, digest.join())
        });
        let panicked = |_| std::io::Error::other("a thread that synchronises or reads back panicked");
        synced.map_err(panicked).and_then(|synced| synced).map_err(failed)?;
        verified?;
        let digest = digest.map_err(panicked).map_err(failed)??;
        rename(&self.temporary, &self.path)?;
        Ok(digest)
    }

    /// Opens the closed file again and compares every slab and attribute with what was handed in.
    fn verify(&self, declared: &[Declared]) -> Result<()> {
        let unverified = |name: &str| DataError::Unverified {
            path: self.path.clone(),
            name: name.to_owned(),
            free: disk::free_bytes(disk::folder_of(&self.path)).unwrap_or(0),
        };
        let file = super::unlocked().open(&self.temporary).map_err(|_| unverified("the file"))?;
        for (name, read_back, slabs) in declared {
            let dataset = file.dataset(name).map_err(|_| unverified(name))?;
            for slab in slabs {
                if read_back(&dataset, slab).map_err(|_| unverified(name))? != slab.hash {
                    return Err(unverified(name));
                }
            }
        }
        for ((object, name), value) in &self.attributes {
            let read = location(&file, object).and_then(|location| attribute::read(&location, name));
            let same = read.ok().flatten().is_some_and(|read| read.same_as(value));
            if !same {
                return Err(unverified(&format!("attribute `{name}` of {object}")));
            }
        }
        Ok(())
    }

    fn undeclared(&self, name: String) -> DataError {
        let available = self.datasets.keys().cloned().collect();
        DataError::MissingDataset { path: self.path.clone(), name, nearest: None, available }
    }

    fn file(&self) -> &File {
        self.file.as_ref().expect("a writer holds its file until the commit")
    }

    fn failed(&self, action: &'static str) -> impl Fn(hdf5::Error) -> DataError + use<> {
        let path = self.path.clone();
        move |error| DataError::from_hdf5(&path, action, &error)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.datasets.clear();
        drop(self.file.take());
        // After a commit the temporary name is gone and this does nothing.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

impl Slab {
    fn overlaps(&self, other: &Self) -> bool {
        (0..self.start.len()).all(|axis| {
            self.start[axis] < other.start[axis] + other.count[axis]
                && other.start[axis] < self.start[axis] + self.count[axis]
        })
    }

    fn selection(&self) -> Selection {
        selection(&self.start, &self.count)
    }
}

/// XXH3-128 of a slab as it lies in the file, read in blocks along its first axis.
fn read_back<T: Element>(dataset: &Dataset, slab: &Slab) -> hdf5::Result<u128> {
    let mut hash = Xxh3::new();
    if slab.count.is_empty() {
        hash.update(bytemuck::cast_slice(&dataset.read_raw::<T>()?));
        return Ok(hash.digest128());
    }
    let per_index = slab.count[1..].iter().product::<usize>() * size_of::<T>();
    let step = (VERIFY_BLOCK / per_index.max(1)).max(1);
    for first in (0..slab.count[0]).step_by(step) {
        let (mut start, mut count) = (slab.start.clone(), slab.count.clone());
        start[0] += first;
        count[0] = step.min(slab.count[0] - first);
        let block: ndarray::ArrayD<T> = dataset.read_slice(selection(&start, &count))?;
        hash.update(bytemuck::cast_slice(&block.into_raw_vec_and_offset().0));
    }
    Ok(hash.digest128())
}

/// The box `start..start + count`.
pub(super) fn selection(start: &[usize], count: &[usize]) -> Selection {
    let axes = start.iter().zip(count);
    let slices = axes.map(|(&start, &count)| SliceOrIndex::SliceCount { start, step: 1, count, block: 1 });
    Selection::Hyperslab(Hyperslab::from(slices.collect::<Vec<_>>()))
}

/// Checks that the box `start..start + count` lies inside `shape`.
pub(super) fn check_bounds(path: &Path, name: &str, start: &[usize], count: &[usize], shape: &[usize]) -> Result<()> {
    let inside = start.len() == shape.len()
        && count.len() == shape.len()
        && (0..shape.len()).all(|k| start[k].checked_add(count[k]).is_some_and(|end| end <= shape[k]));
    if inside {
        return Ok(());
    }
    Err(DataError::OutOfBounds {
        path: path.to_path_buf(),
        name: name.to_owned(),
        start: start.to_vec(),
        count: count.to_vec(),
        shape: shape.to_vec(),
    })
}

/// `name` with a leading slash and without a trailing one.
pub(super) fn absolute(name: &str) -> String {
    format!("/{}", name.trim_matches('/'))
}

/// The file, group or dataset called `object`.
pub(super) fn location(file: &File, object: &str) -> hdf5::Result<Location> {
    if object == "/" {
        return Ok(Location::clone(file));
    }
    let info = file.loc_info_by_name(object)?;
    file.open_by_token(info.token)
}
