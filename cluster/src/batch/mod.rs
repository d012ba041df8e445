//! The batch system: what a job asks of it, the script that it runs, and the commands that talk to it.
//!
//! Whatever reaches a directive of the batch script is an integer or a [`Token`]: no blank, no quote, no line break, so no
//! value can become a second option or a second line.

mod scheduler;
mod script;
mod site;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::job::{BadValue, Bytes};

pub use scheduler::{Asked, BatchError, Entry, Environment, Limits, Scheduler};
pub use script::{Request, Tasks, script};
pub use site::{LaunchWith, Site};

/// `[slurm]`: what the job asks of the batch system beyond `[run]`. All of it is optional; the site's defaults fill in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Slurm {
    /// Partition (queue).
    pub partition: Option<Token>,
    /// Account that is charged.
    pub account: Option<Token>,
    /// Quality of service.
    pub qos: Option<Token>,
    /// Reservation.
    pub reservation: Option<Token>,
    /// Features that nodes must have, all of them.
    pub constraint: Vec<Token>,
    /// Nodes that must not be used.
    pub exclude: Vec<Token>,
    /// Ranks on each node; absent: as the batch system deals them.
    pub ranks_per_node: Option<u32>,
    /// GPUs of each rank.
    pub gpus_per_rank: u32,
    /// Memory that one rank asks for; absent: from the job's price.
    pub memory_per_rank: Option<Bytes>,
    /// Whether nodes are not shared with other jobs.
    pub exclusive: bool,
    /// Job numbers that must have ended before this one begins.
    pub after: Vec<u64>,
}

/// The batch job that this process belongs to, and how often it was requeued; a task of an array as `812_3`: its own number
/// may be that of the whole array.
pub fn this_job() -> Option<(String, u32)> {
    let variable = |name: &str| std::env::var(name).ok();
    let task = || Some(format!("{}_{}", variable("SLURM_ARRAY_JOB_ID")?, variable("SLURM_ARRAY_TASK_ID")?));
    let id = task().or_else(|| variable("SLURM_JOB_ID"))?;
    Some((id, variable("SLURM_RESTART_COUNT").and_then(|n| n.parse().ok()).unwrap_or(0)))
}

impl Slurm {
    /// Checks what types cannot say.
    ///
    /// # Errors
    /// The first key that cannot be.
    pub fn check(&self, ranks: usize) -> Result<(), BadValue> {
        if let Some(per_node) = self.ranks_per_node
            && (per_node == 0 || per_node as usize > ranks)
        {
            return Err(BadValue::new("slurm.ranks_per_node", per_node, format!("1 to {ranks} (run.ranks)")));
        }
        if self.gpus_per_rank > 64 {
            return Err(BadValue::new("slurm.gpus_per_rank", self.gpus_per_rank, "0 to 64"));
        }
        Ok(())
    }
}

/// A word for a directive: letters, digits and `_ . @ : + - [ ] ,`, 1 to 64 of them, not beginning with `-`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Token(String);

impl Token {
    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.@:+-[],".contains(c);
        if (1..=64).contains(&text.len()) && text.chars().all(plain) && !text.starts_with('-') {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("{text:?} is no name that a batch system takes; expected 1 to 64 letters, digits or _.@:+-[],"))
    }
}

impl TryFrom<String> for Token {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        token.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_word_is_a_token() {
        for good in ["gpu", "n[1-4]", "a.b@c:d+e", "Team_1"] {
            assert_eq!(good.parse::<Token>().map(|t| t.to_string()), Ok(good.to_owned()));
        }
        let long = "x".repeat(65);
        for bad in ["", "a b", "a\nb", "--output=/evil", "$(x)", "`x`", "a;b", "a'b", "a\"b", "a/b", "%j", "é", &long]
        {
            assert!(bad.parse::<Token>().is_err(), "{bad:?}");
        }
    }
}
