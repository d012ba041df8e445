//! What a workload is to the frame: a plan, a state, a step.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use convoke_data::store::Overflow;
use convoke_kernels::Device;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::comm::Comm;
use crate::error::Result;
use crate::fields::Fields;
use crate::machine::human_bytes;
use crate::pieces::Pieces;
use crate::results::Results;

/// A method that Convoke can run. The registry holds one line per workload.
///
/// The driver owns the loop, clock, files, signals and the decision to stop; a workload owns its
/// mathematics. It reads no clock or environment variable, prints nothing, and reaches files only
/// through `convoke-data`, at paths that [`Inputs`] resolved.
pub trait Workload: Sized {
    /// Registry key, folder name and the `workload` of a job file.
    const NAME: &'static str;
    /// One line for `convoke list`.
    const SUMMARY: &'static str;
    /// Job files that come with it, `(name, text)`; the first is what `convoke new` prints.
    const JOBS: &'static [(&'static str, &'static str)];
    /// Keys of `[problem]` that may change between attempts of a run: its end and how often it writes, nothing that earlier
    /// steps depend on.
    const MAY_CHANGE: &'static [&'static str] = &[];
    /// `[problem]` of the job file: what the user typed.
    type Spec: Serialize + DeserializeOwned;

    /// Checks the spec and prices it; allocates nothing of size and writes nothing.
    ///
    /// # Errors
    /// [`crate::Error::BadValue`] for a value that cannot work; data errors for input files.
    fn plan(spec: &Self::Spec, inputs: &Inputs, resources: &Resources) -> Result<Plan>;

    /// Reads and checks all inputs and makes the initial state. Collective.
    ///
    /// # Errors
    /// Data errors for input files: nothing has been computed or written yet.
    fn new(spec: &Self::Spec, ctx: &Ctx) -> Result<Self>;

    /// One step. Collective; never called after it reported `done`.
    ///
    /// # Errors
    /// What the mathematics or the device cannot do.
    fn step(&mut self, ctx: &Ctx) -> Result<Progress>;

    /// The state, described once. Called to save, to load and to measure.
    fn fields<'a>(&'a mut self, fields: &mut Fields<'a>);

    /// After counters and histories were loaded and before arrays are: allocate what they imply.
    ///
    /// # Errors
    /// As [`Workload::new`].
    fn reshape(&mut self, _ctx: &Ctx) -> Result<()> {
        Ok(())
    }

    /// After a load: rebuild what follows from the state.
    ///
    /// # Errors
    /// As [`Workload::step`].
    fn restored(&mut self, _ctx: &Ctx) -> Result<()> {
        Ok(())
    }

    /// Writes the results. Collective.
    ///
    /// # Errors
    /// As [`Results::array`].
    fn finish(&mut self, ctx: &Ctx, out: &mut Results) -> Result<()>;
}

/// What surrounds a workload while it runs.
#[derive(Debug, Clone)]
pub struct Ctx {
    /// The ranks.
    pub comm: Comm,
    /// Where kernels run.
    pub device: Device,
    /// Seed of all randomness.
    pub seed: u64,
    /// Where input files are.
    pub inputs: Inputs,
    /// What this run may use.
    pub resources: Resources,
    /// Finished parts of results that do not fit into memory.
    pub pieces: Pieces,
    /// Where vectors lie that do not fit into memory.
    pub overflow: Overflow,
    /// A folder of the run for files of other programs. It is not there until somebody makes it.
    pub scratch: PathBuf,
    /// What the user should hear while the job runs.
    pub notes: Notes,
    /// Seconds, to be reported where a result compares costs.
    pub clock: Clock,
}

/// Seconds since the attempt began. For reports alone: nothing that is computed may follow from them.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// One that begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Seconds since then.
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// Sentences for the user; the driver prints those of rank 0.
#[derive(Debug, Clone, Default)]
pub struct Notes(Rc<RefCell<Vec<String>>>);

impl Notes {
    /// Adds one.
    pub fn add(&self, note: String) {
        self.0.borrow_mut().push(note);
    }

    pub(crate) fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// Resolves the paths of a job file.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Directory that relative paths start from: the job file's.
    pub base: PathBuf,
}

impl Inputs {
    /// The file that a path in the job file means.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        if path.is_absolute() { path.to_owned() } else { self.base.join(path) }
    }
}

/// What a run may use.
#[derive(Debug, Clone, Copy)]
pub struct Resources {
    /// Number of ranks.
    pub ranks: usize,
    /// Threads of each rank.
    pub threads: usize,
    /// Bytes that one rank may hold.
    pub memory_per_rank: u64,
}

/// The item of the memory bill from which a checkpoint is written while the computation goes on.
const SECOND_BUFFER: &str = "second buffer of a checkpoint";

/// The price of a job, before anything is allocated.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    /// Steps of the driver's loop, at most.
    pub steps: u64,
    /// What one rank holds at its peak, by item, in bytes.
    pub memory: Vec<(String, u64)>,
    /// Payload bytes that the busiest rank sends in the whole run, at most.
    pub bytes_sent_per_rank: u64,
    /// Elementary operations of the whole run, in the unit that `work_unit` names.
    pub work: f64,
    /// What `work` counts, such as "voxel updates".
    pub work_unit: &'static str,
    /// Bytes of one checkpoint, all ranks together.
    pub checkpoint_bytes: u64,
    /// Bytes of the results.
    pub result_bytes: u64,
    /// Bytes of vectors that lie in files because they do not fit into memory, all ranks together; nothing of them stays.
    #[serde(skip_serializing_if = "is_zero")]
    pub scratch_bytes: u64,
    /// What the user should know.
    pub notes: Vec<String>,
}

fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

impl Plan {
    /// Peak memory of one rank in bytes.
    pub fn memory_per_rank(&self) -> u64 {
        self.memory.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Adds the second buffer of a checkpoint, one rank's share of it, if there is memory for it; says so if not.
    pub(crate) fn add_second_buffer(&mut self, resources: &Resources) {
        let buffer = self.checkpoint_bytes.div_ceil(resources.ranks as u64);
        if self.memory_per_rank() + buffer <= resources.memory_per_rank {
            self.holds(SECOND_BUFFER, buffer);
        } else {
            let size = human_bytes(buffer);
            self.notes
                .push(format!("no {size} for a second buffer: the computation waits while a checkpoint is written"));
        }
    }

    /// Bytes of that buffer in the bill.
    pub(crate) fn second_buffer(&self) -> u64 {
        self.memory.iter().filter(|(what, _)| what == SECOND_BUFFER).map(|(_, bytes)| bytes).sum()
    }

    /// Adds an item to the memory bill.
    pub fn holds(&mut self, what: impl Into<String>, bytes: u64) {
        self.memory.push((what.into(), bytes));
    }

    /// The bill as `(item, figure)` lines.
    pub fn lines(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            ("steps".to_owned(), self.steps.to_string()),
            ("memory per rank".to_owned(), human_bytes(self.memory_per_rank())),
        ];
        lines.extend(self.memory.iter().map(|(what, bytes)| (format!("  {what}"), human_bytes(*bytes))));
        lines.push(("bytes sent per rank".to_owned(), human_bytes(self.bytes_sent_per_rank)));
        lines.push(("work".to_owned(), format!("{:.3e} {}", self.work, self.work_unit)));
        lines.push(("checkpoint".to_owned(), human_bytes(self.checkpoint_bytes)));
        lines.push(("results".to_owned(), human_bytes(self.result_bytes)));
        if self.scratch_bytes > 0 {
            lines.push(("vectors on disk".to_owned(), human_bytes(self.scratch_bytes)));
        }
        lines.extend(self.notes.iter().map(|note| ("note".to_owned(), note.clone())));
        lines
    }
}

/// What one step did.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Whether the job is complete.
    pub done: bool,
    /// Fraction of the job that is done, 0 to 1.
    pub fraction: f64,
    /// Work of this step on all ranks, in the plan's unit.
    pub work: f64,
    /// Figures for the history: the same names in every step, the same values on every rank.
    pub metrics: Vec<(&'static str, f64)>,
}
