//! Reading a checkpoint back, newest first, on any number of ranks.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use convoke_data::store::Reader;

use super::History;
use super::manifest::{Manifest, Name, list, verify};
use crate::comm::Comm;
use crate::error::{Error, Result};
use crate::fields::{Array, Data, Fields, Value};
use crate::run_dir::RunDir;
use crate::shard::Region;

/// Between the name of a checkpoint and the attempt that is loading it, or died of it: `NAME.loading-e00003`.
pub(super) const LOADING: &str = ".loading-e";
/// After this many failed loads a checkpoint comes last.
const TRIES: usize = 2;
/// Elements of an array that are read at once.
const BLOCK: usize = 4 << 20;

/// A verified checkpoint, ready to be loaded.
#[derive(Debug)]
pub struct Restored {
    dir: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// What was refused on the way: one sentence per damaged checkpoint.
    pub refused: Vec<String>,
}

/// Finds the newest checkpoint whose every byte is as it was written, or looks at `only` that one. Collective.
///
/// Damaged ones are moved aside (`….bad`), never deleted. `None` if there was never any.
///
/// # Errors
/// [`Error::NoCheckpoint`] if there are checkpoints and none is whole.
pub fn restore(run: &RunDir, comm: &Comm, only: Option<Name>) -> Result<Option<Restored>> {
    let ckpt = run.checkpoints();
    let names: Vec<Name> = comm.agree(Ok(if !comm.is_root() {
        Vec::new()
    } else if let Some(name) = only {
        vec![name]
    } else {
        candidates(run)
    }))?;
    let text = names.iter().map(Name::to_string).collect::<Vec<_>>().join(" ");
    let text = comm.broadcast(0, text.as_bytes())?;
    let names = String::from_utf8_lossy(&text).into_owned();
    let mut refused = Vec::new();
    for name in names.split_whitespace() {
        let dir = ckpt.join(name);
        let checked = Manifest::read(&dir)
            .and_then(|manifest| verify(&dir, &manifest, comm.rank(), comm.size()).map(|()| manifest));
        let reasons = comm.all_gather(checked.as_ref().err().map_or(&[][..], |e| e.as_bytes()))?;
        let Some(reason) = reasons.iter().find(|r| !r.is_empty()) else {
            let manifest = checked.expect("no rank has found a fault");
            return Ok(Some(Restored { dir, manifest, refused }));
        };
        refused.push(format!("{name}: {}", String::from_utf8_lossy(reason)));
        if comm.is_root() {
            let _ = fs::rename(&dir, ckpt.join(format!("{name}.bad")));
        }
    }
    let set_aside = comm.is_root() && has_bad(&ckpt);
    if comm.all_max(u64::from(!refused.is_empty() || set_aside))? == 0 {
        return Ok(None);
    }
    Err(Error::Agreed(Box::new(Error::NoCheckpoint {
        dir: run.path.clone(),
        why: if refused.is_empty() { "all were set aside as damaged".into() } else { refused.join("; ") },
        help: "damaged checkpoints are kept as ckpt/*.bad; `convoke resume --restart` begins again from step 0".into(),
    })))
}

fn has_bad(ckpt: &Path) -> bool {
    let entries = fs::read_dir(ckpt).into_iter().flatten().flatten();
    entries.into_iter().any(|e| e.path().extension().is_some_and(|x| x == "bad"))
}

/// Committed checkpoints of this run's line of attempts, newest first: what an attempt wrote
/// after its successor had started from an older step does not belong to it.
pub(super) fn admissible(run: &RunDir) -> Vec<Name> {
    let bases: HashMap<u32, Name> = (1..=run.newest_epoch()).filter_map(|e| Some((e, run.base(e)?))).collect();
    let overtaken = |n: &Name| bases.iter().any(|(epoch, base)| *epoch > n.epoch && base.step < n.step);
    let mut names: Vec<Name> = list(&run.checkpoints()).into_iter().filter(|n| !overtaken(n)).collect();
    names.sort_by(|a, b| b.cmp(a));
    names
}

/// The admissible ones, those that attempts failed to load again and again behind all others: whole bytes do not make a
/// state that can be gone on with. They are not left out, because a load may also die of something else.
fn candidates(run: &RunDir) -> Vec<Name> {
    let entries = fs::read_dir(run.checkpoints()).into_iter().flatten().flatten();
    let marks: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    let tries = |name: &Name| marks.iter().filter(|m| m.starts_with(&format!("{name}{LOADING}"))).count();
    let mut names = admissible(run);
    names.sort_by_key(|name| tries(name) >= TRIES);
    names
}

/// A region cut along its first axis into blocks of about `size` elements, so that little of an array is in memory twice.
fn blocks(region: &Region, size: usize) -> Vec<Region> {
    let [n, rest @ ..] = region.count.as_slice() else { return vec![region.clone()] };
    let rows = (size / rest.iter().product::<usize>().max(1)).max(1);
    let block = |first: usize| {
        let mut block = region.clone();
        (block.start[0], block.count[0]) = (region.start[0] + first, rows.min(n - first));
        block
    };
    (0..*n).step_by(rows).map(block).collect()
}

impl Restored {
    /// Leaves a mark that attempt `epoch` is loading; [`Restored::loaded`] takes it away. Best effort, rank 0 alone.
    pub fn loading(&self, epoch: u32) {
        let _ = fs::write(self.mark(epoch), "");
    }

    /// The load went well.
    pub fn loaded(&self, epoch: u32) {
        let _ = fs::remove_file(self.mark(epoch));
    }

    fn mark(&self, epoch: u32) -> PathBuf {
        let name = self.manifest.name();
        self.dir.with_file_name(format!("{name}{LOADING}{epoch:05}"))
    }

    /// Loads counters and series, which say how large the arrays are.
    ///
    /// # Errors
    /// [`Error::Restore`] for a name that the checkpoint does not have.
    pub fn load_values(&self, fields: &mut Fields<'_>) -> Result<History> {
        let reader = Reader::open(self.dir.join(&self.manifest.shards[0].file))?;
        for (name, value) in &mut fields.values {
            let path = format!("/values/{name}");
            if !reader.has(&path) {
                return Err(self.error(name, "is missing".into()));
            }
            match value {
                Value::U64(v) => **v = reader.read::<u64>(&path)?[0],
                Value::F64(v) => **v = reader.read::<f64>(&path)?[0],
            }
        }
        for (name, series) in &mut fields.histories {
            let path = format!("/series/{name}");
            **series = if reader.has(&path) { reader.read(&path)? } else { Vec::new() };
        }
        let read = |name: &String| Ok((name.clone(), reader.read(&format!("/history/{name}"))?));
        Ok(History { columns: self.manifest.history.iter().map(read).collect::<Result<_>>()? })
    }

    /// Loads this rank's part of every array, from whichever shards hold it.
    ///
    /// # Errors
    /// [`Error::Restore`] for an array that is missing, has another shape or is not covered.
    pub fn load_arrays(&self, fields: &mut Fields<'_>) -> Result<()> {
        let mut readers = HashMap::new();
        for array in fields.arrays.iter_mut().filter(|a| !a.region.is_empty()) {
            let found = self.load_array(array, &mut readers)?;
            // Owned parts do not overlap, so the counts add up exactly when all is covered.
            if found < array.region.len() {
                let problem = format!("covers {found} of the {} elements that this rank needs", array.region.len());
                return Err(self.error(&array.name, problem));
            }
        }
        Ok(())
    }

    fn load_array(&self, array: &mut Array<'_>, readers: &mut HashMap<usize, Reader>) -> Result<usize> {
        let mut found = 0;
        for (number, shard) in self.manifest.shards.iter().enumerate() {
            for part in shard.arrays.iter().filter(|p| p.name == array.name) {
                if part.shape != array.shape {
                    let problem = format!("has the shape {:?}, the job needs {:?}", part.shape, array.shape);
                    return Err(self.error(&array.name, problem));
                }
                let Some(common) = part.region.intersection(&array.region) else { continue };
                let reader = match readers.entry(number) {
                    std::collections::hash_map::Entry::Occupied(e) => e.into_mut(),
                    std::collections::hash_map::Entry::Vacant(e) => e.insert(Reader::open(self.dir.join(&shard.file))?),
                };
                let start: Vec<usize> = common.start.iter().zip(&part.region.start).map(|(a, b)| a - b).collect();
                let name = format!("/fields/{}", array.name);
                let to = array.region.clone();
                for block in blocks(&common, BLOCK) {
                    let mut start = start.clone();
                    if let Some(first) = start.first_mut() {
                        *first += block.start[0] - common.start[0];
                    }
                    match &mut array.data {
                        Data::F32(out) => {
                            block.copy_part(&reader.read_slab(&name, &start, &block.count)?, &block, &to, out)
                        }
                        Data::F64(out) => {
                            block.copy_part(&reader.read_slab(&name, &start, &block.count)?, &block, &to, out)
                        }
                        Data::U64(out) => {
                            block.copy_part(&reader.read_slab(&name, &start, &block.count)?, &block, &to, out)
                        }
                    }
                }
                found += common.len();
            }
        }
        Ok(found)
    }

    fn error(&self, field: &str, problem: String) -> Error {
        Error::Restore { dir: self.dir.clone(), field: field.to_owned(), problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks follow each other, have whole rows, and are the region: of any number of axes, with rows longer than a block.
    #[test]
    fn blocks_are_the_region() {
        for (count, size, n) in [(vec![7, 2, 3], 13, 4), (vec![5, 9], 4, 5), (vec![6], 100, 1), (vec![], 4, 1)] {
            let region = Region { start: vec![11; count.len()], count: count.clone() };
            let blocks = blocks(&region, size);
            assert_eq!(blocks.len(), n, "{count:?}");
            assert_eq!(blocks.iter().map(Region::len).sum::<usize>(), region.len());
            let mut next = 11;
            for block in blocks.iter().filter(|block| !block.count.is_empty()) {
                assert_eq!(
                    (block.start[0], &block.start[1..], &block.count[1..]),
                    (next, &region.start[1..], &count[1..])
                );
                next += block.count[0];
            }
        }
    }
}
