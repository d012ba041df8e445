//! A seeded fault injector: runs one job again and again under `kill -9`, signals, failing system calls, damaged files
//! and a full disk, resumes it on other numbers of ranks, and compares the result with that of a run left alone.
//!
//! It knows the program from outside only (its command line, exit codes and run directories), and is shared by
//! `cargo xtask faults` (any count) and `tests/faults.rs` (a small one).

mod attempt;
mod damage;
pub mod kind;
mod tally;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use attempt::{Attempt, End, Strike};
pub use damage::committed;
use kind::{Kind, Signal};
pub use tally::{Outcome, Tally};

/// Steps of the job; a checkpoint each 7.
const STEPS: u64 = 84;
/// No attempt takes this long, however loaded the machine.
const HANG: Duration = Duration::from_secs(120);
/// Owners that outlive what started them (ranks of a killed launcher) are gone after this long.
const OWNER: Duration = Duration::from_secs(60);

/// The job that is run: large enough to be struck in every phase, a fraction of a second in all.
pub fn job() -> String {
    format!(
        "schema = 1\nname = \"faults\"\nworkload = \"tomography\"\nseed = 3\n[checkpoint]\nevery_steps = 7\n\
         [problem.phantom]\nkind = \"ellipsoids\"\nparts = 6\nsize = 56\nrows = 12\nangles = 50\nphotons = 1e4\n\
         [problem.method]\nalgorithm = \"cgls\"\niterations = {STEPS}\n"
    )
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// The `convoke` program.
    pub program: PathBuf,
    /// An empty directory for everything.
    pub scratch: PathBuf,
    /// A small file system of its own, if one could be mounted: every second run lies there and sees it full.
    pub small_disk: Option<PathBuf>,
    /// Each attempt has 1 to this many ranks.
    pub most_ranks: u64,
    /// Of all random numbers.
    pub seed: u64,
    /// Runs.
    pub runs: u64,
    /// Faults, spread evenly over the runs.
    pub faults: u64,
}

/// Whether two finished run directories hold the same bits; if not, what differs.
pub type Same<'a> = &'a dyn Fn(&Path, &Path) -> Result<(), String>;

impl Campaign {
    /// Injects all faults; what went wrong is in the tally, an error is a campaign that could not be made.
    pub fn inject(&self, same: Same<'_>, say: &mut dyn FnMut(&str)) -> Result<Tally, String> {
        let spec = self.scratch.join("job.toml");
        fs::write(&spec, job()).map_err(|e| format!("{}: {e}", spec.display()))?;
        let reference = self.scratch.join("reference");
        let began = Instant::now();
        let end = Attempt::new(&self.program, &reference, &spec, 1).go(None)?;
        if end.code != Some(0) {
            return Err(format!("the job fails without any fault: {}", end.told));
        }
        let whole = began.elapsed();
        let mut tally = Tally::default();
        let mut random = fastrand::Rng::with_seed(self.seed);
        for number in 0..self.runs {
            let due = self.faults * (number + 1) / self.runs - self.faults * number / self.runs;
            let home = self.small_disk.as_ref().filter(|_| number % 2 == 1).unwrap_or(&self.scratch);
            let dir = home.join(format!("run{number}"));
            let on_small_disk = home != &self.scratch;
            let compare = |run: &Path| same(&reference, run);
            let mut run =
                Run { campaign: self, spec: &spec, dir, whole, open: Vec::new(), on_small_disk, compare: &compare };
            match run.live(due, &mut random, &mut tally) {
                Ok(()) => {
                    let _ = fs::remove_dir_all(&run.dir);
                }
                Err(misfortune) => tally.misfortune(number, misfortune, &run.dir),
            }
            tally.runs += 1;
            if (number + 1) % 10 == 0 || number + 1 == self.runs {
                say(&tally.line());
            }
        }
        Ok(tally)
    }
}

/// How a run may go wrong.
#[derive(Debug)]
pub enum Misfortune {
    /// It cannot be gone on with.
    Lost(String),
    /// Its result has other bits.
    Wrong(String),
    /// It does not end.
    Hang(String),
}

impl From<String> for Misfortune {
    fn from(why: String) -> Self {
        Self::Lost(why)
    }
}

/// One run from its start to its result.
struct Run<'a> {
    campaign: &'a Campaign,
    spec: &'a Path,
    dir: PathBuf,
    whole: Duration,
    /// Faults that have ended an attempt and whose outcome the next attempt shows.
    open: Vec<String>,
    on_small_disk: bool,
    /// With the run that was left alone.
    compare: &'a dyn Fn(&Path) -> Result<(), String>,
}

impl Run<'_> {
    fn live(&mut self, due: u64, random: &mut fastrand::Rng, tally: &mut Tally) -> Result<(), Misfortune> {
        let target = tally.faults() + due;
        // A run that is completed between two faults starts anew: faults and not luck decide how often it is struck.
        while tally.faults() + (self.open.len() as u64) < target {
            let kind = Kind::draw(random, self.on_small_disk, committed(&self.dir).len());
            if self.one(&kind, random, tally)? == Some(0) {
                self.completed(tally)?;
                fs::remove_dir_all(&self.dir).map_err(|e| format!("{}: {e}", self.dir.display()))?;
            }
        }
        let end = self.attempt(random, tally, |_| {}, None)?;
        match end.code {
            Some(0) => self.completed(tally),
            _ => Err(Misfortune::Lost(format!("it ended with {:?} without a fault: {}", end.code, end.told))),
        }
    }

    fn completed(&self, tally: &mut Tally) -> Result<(), Misfortune> {
        tally.compared += 1;
        (self.compare)(&self.dir).map_err(Misfortune::Wrong)
    }

    /// Injects one fault and lets the attempt end; its exit code.
    fn one(&mut self, kind: &Kind, random: &mut fastrand::Rng, tally: &mut Tally) -> Result<Option<i32>, Misfortune> {
        let label = kind.label();
        // Enough to reach every phase: start, steps, checkpoints, the result's writing.
        let moment = Duration::from_millis(random.u64(0..self.whole.as_millis() as u64 * 3 / 4 + 250));
        match kind {
            Kind::Strike(signal) => {
                let slow = matches!(signal, Signal::AskInCheckpoint);
                let strike = Strike { signal: *signal, after: moment, dice: random.u64(..) };
                let slowly = |a: &mut Attempt<'_>| {
                    if slow {
                        a.fault("delay@shard-sync:for=300ms:times=all");
                    }
                };
                let end = self.attempt(random, tally, slowly, Some(strike))?;
                let asks = signal.asks();
                match end.code {
                    Some(0) if end.struck && *signal == Signal::Freeze => tally.count(&label, Outcome::WentOn),
                    Some(0) => {}
                    Some(75) if asks => self.open.push(label),
                    // Before it listens, a signal ends it; it had nothing to save. (What resumed may then be the orphans
                    // of the attempt before, which write into the same events.)
                    _ if asks && end.struck && (end.resumed.is_none() || end.told.contains("killed by signal")) => {
                        self.open.push(label);
                    }
                    _ if !asks && end.struck => self.open.push(label),
                    code => return Err(Misfortune::Lost(format!("{label}: it ended with {code:?}: {}", end.told))),
                }
                Ok(end.code)
            }
            Kind::Point { effect, point, rank_0, times } => {
                self.at_a_point((effect, point, *rank_0, *times), &label, random, tally)
            }
            Kind::Damage { what, how, all } => {
                let before = committed(&self.dir);
                let Some(spoilt) = damage::spoil(&self.dir, what, how, *all, random)? else { return Ok(None) };
                self.open.push(label.clone());
                let steps = random.u64(1..20).to_string();
                let end = self.attempt(random, tally, |a| a.more(&["--stop-after", &steps]), None)?;
                if end.code == Some(6) && spoilt.len() == before.len() {
                    // All it had is damaged, nothing is deleted, and the user is told what to do.
                    self.open.drain(..).for_each(|label| tally.count(&label, Outcome::Refused(6)));
                    let end = self.attempt(random, tally, |a| a.more(&["--restart", "--stop-after", &steps]), None)?;
                    return if matches!(end.code, Some(0 | 75)) { Ok(end.code) } else { Err(end.told.into()) };
                }
                match end.code {
                    Some(0 | 75) => Ok(end.code),
                    code => Err(Misfortune::Lost(format!("{label}: it ended with {code:?}: {}", end.told))),
                }
            }
            Kind::DiskFull => {
                let Some(disk) = &self.campaign.small_disk else { return Ok(None) };
                let ballast = disk.join("ballast");
                let strike = Strike { signal: Signal::Fill, after: moment, dice: random.u64(..) };
                let end = self.attempt(random, tally, |a| a.ballast = Some(ballast.clone()), Some(strike));
                let _ = fs::remove_file(&ballast);
                let end = end?;
                match end.code {
                    Some(0) => {
                        if end.struck {
                            tally.count(&label, Outcome::WentOn);
                        }
                    }
                    Some(1 | 3 | 75) => self.open.push(label),
                    code => return Err(Misfortune::Lost(format!("{label}: it ended with {code:?}: {}", end.told))),
                }
                Ok(end.code)
            }
        }
    }

    /// A fault at a point: a kill ends the attempt, an error of the system does not, unless it comes again and again.
    fn at_a_point(
        &mut self,
        (effect, point, rank_0, times): (&str, &str, bool, u64),
        label: &str,
        random: &mut fastrand::Rng,
        tally: &mut Tally,
    ) -> Result<Option<i32>, Misfortune> {
        let nth = random.u64(1..4);
        let other = random.bool();
        let duration = if effect == "delay" { ":for=300ms" } else { "" };
        let arm = |a: &mut Attempt<'_>| {
            let rank = if rank_0 || !other { 0 } else { a.ranks - 1 };
            a.fault(&format!("{effect}@{point}:rank={rank}:nth={nth}:times={times}{duration}"));
        };
        let end = self.attempt(random, tally, arm, None)?;
        match (end.code, effect) {
            (Some(0), "kill" | "fail") => {} // the point was not reached so often
            (Some(0), "delay") if end.checkpoints >= nth => tally.count(label, Outcome::WentOn),
            (Some(0), _) if end.failed > 0 => tally.count(label, Outcome::WentOn),
            (Some(0), _) => {}
            (code, "kill") if code != Some(2) => self.open.push(label.to_owned()),
            (Some(1), _) if effect != "delay" => self.open.push(label.to_owned()),
            (code, _) => return Err(Misfortune::Lost(format!("{label}: it ended with {code:?}: {}", end.told))),
        }
        Ok(end.code)
    }

    /// Starts or resumes the run on a random number of ranks and waits for its end.
    fn attempt(
        &mut self,
        random: &mut fastrand::Rng,
        tally: &mut Tally,
        prepare: impl Fn(&mut Attempt<'_>),
        strike: Option<Strike>,
    ) -> Result<End, Misfortune> {
        let ranks = random.u64(1..=self.campaign.most_ranks);
        let refused = Instant::now();
        loop {
            let steps: BTreeSet<u64> = committed(&self.dir).into_iter().map(|(step, _)| step).collect();
            let mut attempt = Attempt::new(&self.campaign.program, &self.dir, self.spec, ranks);
            prepare(&mut attempt);
            let end = attempt.go(strike.clone())?;
            tally.attempts += 1;
            if end.hung {
                let (started, struck) = (end.resumed.is_some(), if end.struck { "struck" } else { "not struck" });
                let what = strike.as_ref().map(|s| format!("{:?} at {:?}, {struck}", s.signal, s.after));
                return Err(Misfortune::Hang(format!(
                    "no end after {} s on {ranks} ranks; loop begun: {started}; {what:?}; {}",
                    HANG.as_secs(),
                    end.told
                )));
            }
            // Ranks of a killed launcher live on for a moment, and still own the directory.
            if end.code == Some(7) && refused.elapsed() < OWNER {
                tally.waits += 1;
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            if end.code == Some(0) && end.resumed.is_none() {
                // The faults before came after the result had been written: nothing was left to resume.
                self.open.drain(..).for_each(|label| tally.count(&label, Outcome::WentOn));
            }
            if let Some(resumed) = &end.resumed {
                let outcome = match (resumed.step, steps.last()) {
                    (0, _) => Outcome::FromStart,
                    (step, Some(newest)) if step >= *newest => Outcome::FromNewest,
                    _ => Outcome::FromOlder,
                };
                self.open.drain(..).for_each(|label| tally.count(&label, outcome));
                if resumed.step > 0 {
                    tally.resumed.push(resumed.after.as_secs_f64());
                }
            }
            return Ok(end);
        }
    }
}
