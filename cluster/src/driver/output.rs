//! What a run leaves: the result file with its provenance, the crate beside it, and where the time went.

use std::path::Path;
use std::time::Duration;

use convoke_data::store::Digest;
use serde_json::json;

use super::{Attempt, Options, setup};
use crate::comm::Comm;
use crate::error::Result;
use crate::failpoint;
use crate::results::Results;
use crate::ro_crate::{self, Made};
use crate::run_dir::Claim;
use crate::workload::Workload;

/// The hosts of all ranks, each once. Collective.
pub(super) fn hosts(comm: &Comm) -> Result<Vec<String>> {
    let all = comm.all_gather(comm.host().as_bytes())?;
    let names: std::collections::BTreeSet<String> =
        all.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    Ok(names.into_iter().collect())
}

impl<W: Workload> Attempt<W> {
    /// Where the time of this attempt went, in seconds: on rank 0, and for the communication within
    /// steps its mean and most over the ranks. Collective.
    pub(super) fn phases(&self, results: Option<Duration>) -> Result<serde_json::Value> {
        let spent = self.ctx.comm.all_gather(&[self.traffic.nanoseconds])?;
        let seconds = || spent.iter().map(|ns| ns[0] as f64 * 1e-9);
        Ok(json!({
            "steps": self.step_time.as_secs_f64(),
            "communication_mean": seconds().sum::<f64>() / self.ctx.comm.size() as f64,
            "communication_most": seconds().fold(0.0, f64::max),
            "checkpoints": self.overhead().held_seconds,
            "results": results.map(|t| t.as_secs_f64()),
        }))
    }

    /// The result is there: a crate that cannot be written beside it ends nothing.
    pub(super) fn write_crate(&mut self, options: &Options, hosts: &[String], result: &Digest) {
        use convoke_data::schema::provenance as p;
        let run_id = setup::run_id(&self.dir);
        let mut program = options.provenance.clone();
        program.push((p::HDF5_VERSION, convoke_data::store::hdf5_version()));
        let settings = [
            (p::SEED, self.ctx.seed.to_string()),
            (p::RANKS, self.ctx.comm.size().to_string()),
            (p::DEVICE, self.ctx.device.describe()),
            (p::HOSTS, hosts.join(", ")),
            (p::EPOCH, self.epoch.to_string()),
        ];
        let name = self.text.parse_name().unwrap_or_else(|| W::NAME.to_owned());
        let made =
            Made { name: &name, workload: W::NAME, run_id: &run_id, program: &program, settings: &settings, result };
        if let Err(error) = ro_crate::write(&self.dir, &made) {
            self.reporter.note(&format!("the metadata beside the result could not be written: {error}"));
        }
    }

    pub(super) fn write_results(&mut self, path: &Path, options: &Options, hosts: &[String]) -> Result<Option<Digest>> {
        let comm = self.ctx.comm.clone();
        comm.agree(self.claim.as_ref().map_or(Ok(()), Claim::check))?;
        failpoint::within("result", || {
            let mut results = Results::create(&comm, path)?;
            self.workload.finish(&self.ctx, &mut results)?;
            let described = self.describe(&mut results, options, hosts);
            comm.agree(described)?;
            results.commit()
        })
    }

    /// History and provenance, in every output.
    fn describe(&self, results: &mut Results, options: &Options, hosts: &[String]) -> Result<()> {
        use convoke_data::schema::{self, provenance as p};
        let Some(writer) = results.writer() else { return Ok(()) };
        for (name, values) in &self.history.columns {
            writer.whole(&schema::history(name), &[values.len()], values)?;
        }
        writer.text(schema::SPEC_TOML, &self.text.text)?;
        for (name, value) in &options.provenance {
            match (*name, value.parse::<i64>()) {
                (p::GIT_DIRTY, Ok(dirty)) => writer.attribute("/", name, dirty)?,
                _ => writer.attribute("/", name, value.as_str())?,
            }
        }
        writer.attribute("/", p::SPEC_XXH3_128, self.spec_hash.as_str())?;
        writer.attribute("/", p::WORKLOAD, W::NAME)?;
        writer.attribute("/", p::RUN_ID, setup::run_id(&self.dir).as_str())?;
        writer.attribute("/", p::EPOCH, u64::from(self.epoch))?;
        writer.attribute("/", p::CREATED, jiff::Timestamp::now().to_string().as_str())?;
        writer.attribute("/", p::HOSTS, hosts.to_vec())?;
        writer.attribute("/", p::RANKS, self.ctx.comm.size() as u64)?;
        writer.attribute("/", p::DEVICE, self.ctx.device.describe().as_str())?;
        writer.attribute("/", p::SEED, self.ctx.seed)?;
        writer.attribute("/", p::STEP, self.step)?;
        writer.attribute("/", p::HDF5_VERSION, convoke_data::store::hdf5_version().as_str())?;
        Ok(())
    }

    /// ParaView goes by the extension: the same file under a name that it knows.
    pub(super) fn link_for_paraview(&self) {
        let link = self.dir.path.join("result.vtkhdf");
        let _ = std::fs::remove_file(&link);
        let _ = std::os::unix::fs::symlink("result.h5", link);
    }
}
