//! What to do after an attempt: a pure function of what was seen of it.

use crate::error::Exit;

/// What was seen of an attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The result is there, and is what was written.
    pub complete: bool,
    /// Exit code of the ranks; nothing where a signal ended them.
    pub code: Option<u8>,
    /// The signal, where one ended them.
    pub signal: Option<i32>,
    /// It came to own the run, so its ranks were launched.
    pub began: bool,
    /// A newer attempt owns the run.
    pub overtaken: bool,
    /// A user wants the run to stop.
    pub asked: bool,
    /// The batch system announced the end of the time limit.
    pub warned: bool,
    /// The failure is one that every further attempt would meet.
    pub lasting: bool,
    /// No step was completed for too long.
    pub stalled: bool,
    /// The system killed a rank for its memory.
    pub out_of_memory: bool,
    /// Attempts since the run was begun by hand, this one included.
    pub attempts: u32,
    /// Attempts in a row, up to this one, without a new checkpoint.
    pub fruitless: u32,
    /// Seconds of all attempts.
    pub seconds: u64,
    /// Nodes that errors name.
    pub suspects: Vec<String>,
}

/// What is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Attempts at most.
    pub attempts: u32,
    /// Attempts in a row without a new checkpoint.
    pub fruitless: u32,
    /// Seconds of all attempts together.
    pub seconds: Option<u64>,
    /// Whether this is a job of a batch system, which can begin again elsewhere.
    pub batch: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The result is there.
    Complete,
    /// Another attempt goes on; nothing more is to be done here, ever.
    Overtaken,
    /// No further attempt.
    End {
        /// Exit code.
        exit: u8,
        /// Why.
        why: String,
    },
    /// Another attempt, here and now.
    Again,
    /// Another attempt in another allocation, without these nodes.
    Elsewhere {
        /// Nodes.
        exclude: Vec<String>,
    },
}

/// What to do after an attempt.
pub fn verdict(seen: &Evidence, rules: Rules) -> Verdict {
    let end = |exit: u8, why: &str| Verdict::End { exit, why: why.to_owned() };
    let stopped = seen.code == Some(Exit::Stopped as u8);
    if seen.complete {
        return Verdict::Complete;
    }
    if seen.overtaken || seen.code == Some(Exit::Locked as u8) {
        return Verdict::Overtaken;
    }
    if seen.out_of_memory {
        let why = "a rank was killed for its memory; more ranks, or a larger slurm.memory_per_rank, are needed";
        return end(Exit::WouldNotFit as u8, why);
    }
    if let Some(code) = seen.code.filter(|_| seen.lasting && !stopped) {
        return end(code, "another attempt would meet the same failure");
    }
    if seen.asked || (stopped && !rules.batch) {
        return end(if stopped { Exit::Stopped } else { Exit::Failed } as u8, "asked to stop");
    }
    // A stop with a checkpoint is worth going on with; what follows says whether that is allowed.
    let worth = if stopped { Exit::Stopped } else { Exit::Failed } as u8;
    if seen.attempts >= rules.attempts {
        return end(worth, "all attempts are used (run.max_attempts)");
    }
    if rules.seconds.is_some_and(|most| seen.seconds >= most) {
        return end(worth, "the time of all attempts is used (run.total_walltime)");
    }
    if seen.fruitless >= rules.fruitless {
        return end(Exit::Failed as u8, "attempt after attempt ended without a new checkpoint");
    }
    match (rules.batch, stopped || seen.warned) {
        (true, true) => Verdict::Elsewhere { exclude: Vec::new() },
        // Ranks that cannot be launched here will not be the next time.
        (true, false) if seen.fruitless >= 2 || !seen.began => Verdict::Elsewhere { exclude: seen.suspects.clone() },
        _ => Verdict::Again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: Rules = Rules { attempts: 5, fruitless: 3, seconds: Some(100), batch: false };
    const BATCH: Rules = Rules { batch: true, ..LOCAL };

    #[test]
    fn what_happens_decides_what_is_done() {
        let killed = Evidence { signal: Some(9), attempts: 1, began: true, ..Evidence::default() };
        let failed = Evidence { code: Some(1), attempts: 1, ..Evidence::default() };
        let stopped = Evidence { code: Some(75), attempts: 1, ..Evidence::default() };
        let suspects = vec!["n2".to_owned()];
        let ends = |exit: u8| move |v: &Verdict| matches!(v, Verdict::End { exit: e, .. } if *e == exit);
        let is = |expected: Verdict| move |v: &Verdict| *v == expected;
        let elsewhere = |exclude: &[String]| Verdict::Elsewhere { exclude: exclude.to_vec() };
        type Check = Box<dyn Fn(&Verdict) -> bool>;
        let table: Vec<(&str, Evidence, Rules, Check)> = vec![
            (
                "a verified result is success, whatever the exit code",
                Evidence { complete: true, ..killed.clone() },
                BATCH,
                Box::new(is(Verdict::Complete)),
            ),
            (
                "exit code 0 without a result is none",
                Evidence { code: Some(0), attempts: 1, began: true, ..Evidence::default() },
                BATCH,
                Box::new(is(Verdict::Again)),
            ),
            (
                "a zombie never requeues",
                Evidence { overtaken: true, ..stopped.clone() },
                BATCH,
                Box::new(is(Verdict::Overtaken)),
            ),
            (
                "another owner",
                Evidence { code: Some(7), ..Evidence::default() },
                LOCAL,
                Box::new(is(Verdict::Overtaken)),
            ),
            ("a killed rank", killed.clone(), BATCH, Box::new(is(Verdict::Again))),
            ("a killed rank, locally", killed.clone(), LOCAL, Box::new(is(Verdict::Again))),
            ("a stall", Evidence { stalled: true, ..killed.clone() }, BATCH, Box::new(is(Verdict::Again))),
            (
                "the second in a row without progress",
                Evidence { fruitless: 2, suspects: suspects.clone(), ..killed.clone() },
                BATCH,
                Box::new(is(elsewhere(&suspects))),
            ),
            (
                "a failed launch",
                Evidence { began: false, fruitless: 1, suspects: suspects.clone(), ..killed.clone() },
                BATCH,
                Box::new(is(elsewhere(&suspects))),
            ),
            (
                "the third",
                Evidence { fruitless: 3, suspects: suspects.clone(), ..killed.clone() },
                BATCH,
                Box::new(ends(1)),
            ),
            ("the time limit", Evidence { warned: true, ..stopped.clone() }, BATCH, Box::new(is(elsewhere(&[])))),
            ("a stop that was not asked for, in a batch job", stopped.clone(), BATCH, Box::new(is(elsewhere(&[])))),
            ("a stop, locally", stopped.clone(), LOCAL, Box::new(ends(75))),
            ("a user's stop", Evidence { asked: true, ..stopped.clone() }, BATCH, Box::new(ends(75))),
            ("memory", Evidence { out_of_memory: true, ..killed.clone() }, BATCH, Box::new(ends(3))),
            ("mathematics", Evidence { lasting: true, ..failed.clone() }, BATCH, Box::new(ends(1))),
            ("bad input", Evidence { lasting: true, code: Some(2), ..failed.clone() }, BATCH, Box::new(ends(2))),
            ("attempts used", Evidence { attempts: 5, ..killed.clone() }, BATCH, Box::new(ends(1))),
            (
                "attempts used at a stop",
                Evidence { attempts: 5, warned: true, ..stopped.clone() },
                BATCH,
                Box::new(ends(75)),
            ),
            ("time used", Evidence { seconds: 100, ..stopped }, BATCH, Box::new(ends(75))),
        ];
        for (what, seen, rules, check) in table {
            let said = verdict(&seen, rules);
            assert!(check(&said), "{what}: {said:?}");
        }
    }
}
