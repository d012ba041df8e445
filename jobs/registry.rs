//! The workloads of this program: one line each.

use convoke_cluster::driver::{self, Options, Outcome, Placement, Source};
use convoke_cluster::workload::{Inputs, Workload};
use convoke_cluster::{Comm, JobText, Plan, Resources, Result};

/// Every workload, in the order of `convoke list`.
pub static REGISTRY: &[Entry] = &[
    Entry::of::<crate::tomography::Tomography>(),
    Entry::of::<crate::mri::Mri>(),
    Entry::of::<crate::gp_pde::GpPde>(),
    Entry::of::<crate::dpp::Dpp>(),
    Entry::of::<crate::pde_data::PdeData>(),
    Entry::of::<crate::neural_operator::NeuralOperator>(),
    Entry::of::<crate::denoiser::Denoiser>(),
    Entry::of::<crate::program::Program>(),
];

/// A workload without its type.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The `workload` of a job file.
    pub name: &'static str,
    /// One line about it.
    pub summary: &'static str,
    /// Job files that come with it, `(name, text)`; the first is the one to start from.
    pub jobs: &'static [(&'static str, &'static str)],
    /// Keys that may change between attempts of a run, beside the frame's.
    pub may_change: &'static [&'static str],
    /// Runs a job. Collective.
    pub run: fn(&Comm, &Source, &Options) -> Result<Outcome>,
    /// Prices a job.
    pub price: Price,
    /// Number of ranks that a job asks for.
    pub ranks: fn(&JobText) -> Result<usize>,
}

/// Prices a job on ranks that are placed so.
pub type Price = fn(&JobText, &Inputs, &Placement) -> Result<Quote>;

/// The price of a job.
#[derive(Debug, Clone)]
pub struct Quote {
    /// Name of the job.
    pub name: String,
    /// Its bill.
    pub plan: Plan,
    /// What it may use.
    pub resources: Resources,
    /// The job with all defaults filled in.
    pub resolved: serde_json::Value,
}

impl Entry {
    /// The entry of a workload type.
    pub const fn of<W: Workload>() -> Self {
        Self {
            name: W::NAME,
            summary: W::SUMMARY,
            jobs: W::JOBS,
            may_change: W::MAY_CHANGE,
            run: driver::run::<W>,
            price: |text, inputs, placement| {
                let priced = driver::price::<W>(text, inputs, placement)?;
                let resolved = serde_json::to_value(&priced.job).unwrap_or_default();
                Ok(Quote { name: priced.job.name, plan: priced.plan, resources: priced.resources, resolved })
            },
            ranks: |text| Ok(text.parse::<W::Spec>()?.run.ranks),
        }
    }
}

/// The workload that a job file names.
///
/// # Errors
/// A job error that lists the known names.
pub fn of(text: &JobText) -> Result<&'static Entry> {
    let names: Vec<&str> = REGISTRY.iter().map(|e| e.name).collect();
    let name = text.workload(&names)?;
    Ok(find(&name).expect("the name was checked against the registry"))
}

/// The workload of a name.
pub fn find(name: &str) -> Option<&'static Entry> {
    REGISTRY.iter().find(|e| e.name == name)
}
