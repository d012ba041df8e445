//! What was injected and what came of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Misfortune;

/// What came of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The attempt did not end by it, or had already written the result.
    WentOn,
    /// The next attempt continued the newest checkpoint.
    FromNewest,
    /// … an older one.
    FromOlder,
    /// … from step 0: there was no checkpoint.
    FromStart,
    /// The next attempt refused with this exit code, as it should.
    Refused(i32),
}

/// Counts of a campaign.
#[derive(Debug, Default)]
pub struct Tally {
    /// Faults by kind and outcome.
    pub rows: BTreeMap<String, BTreeMap<Outcome, u64>>,
    /// Runs.
    pub runs: u64,
    /// Results compared with that of the run that was left alone.
    pub compared: u64,
    /// Starts of the program.
    pub attempts: u64,
    /// Starts that had to wait for ranks of a killed launcher to go.
    pub waits: u64,
    /// Runs that could not be gone on with.
    pub lost: u64,
    /// Results with other bits.
    pub wrong: u64,
    /// Attempts without an end.
    pub hangs: u64,
    /// Seconds from a start to its first step after a checkpoint.
    pub resumed: Vec<f64>,
    /// What went wrong, and where it lies.
    pub misfortunes: Vec<(String, PathBuf)>,
}

impl Tally {
    pub(super) fn count(&mut self, label: &str, outcome: Outcome) {
        *self.rows.entry(label.to_owned()).or_default().entry(outcome).or_default() += 1;
    }

    pub(super) fn misfortune(&mut self, run: u64, misfortune: Misfortune, dir: &Path) {
        let why = match misfortune {
            Misfortune::Lost(why) => {
                self.lost += 1;
                format!("run {run} lost: {why}")
            }
            Misfortune::Wrong(why) => {
                self.wrong += 1;
                format!("run {run} has a wrong result: {why}")
            }
            Misfortune::Hang(why) => {
                self.hangs += 1;
                format!("run {run} hangs: {why}")
            }
        };
        self.misfortunes.push((why, dir.to_owned()));
    }

    /// Faults of which it is known what came of them.
    pub fn faults(&self) -> u64 {
        self.rows.values().flat_map(BTreeMap::values).sum()
    }

    /// A fault's outcomes as numbers: went on, newest, older, step 0, refused.
    pub fn row(outcomes: &BTreeMap<Outcome, u64>) -> [u64; 5] {
        let mut row = [0; 5];
        for (outcome, n) in outcomes {
            let column = match outcome {
                Outcome::WentOn => 0,
                Outcome::FromNewest => 1,
                Outcome::FromOlder => 2,
                Outcome::FromStart => 3,
                Outcome::Refused(_) => 4,
            };
            row[column] += n;
        }
        row
    }

    /// The sentence that counts.
    pub fn line(&self) -> String {
        let (lost, wrong, hangs) = (self.lost, self.wrong, self.hangs);
        format!("faults injected {} over {} runs: lost {lost}, wrong {wrong}, hangs {hangs}", self.faults(), self.runs)
    }

    /// Median and 95th percentile of the seconds from a start to its first step.
    pub fn start_to_resumed(&self) -> Option<(f64, f64)> {
        let mut sorted = self.resumed.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |part: usize| sorted.get((sorted.len() * part).div_ceil(100).max(1) - 1).copied();
        Some((at(50)?, at(95)?))
    }
}
