//! `CONVOKE_FAULT`: fault injection for tests, at the same points on every machine.
//!
//! ```text
//! CONVOKE_FAULT=kill@manifest-rename:rank=0:nth=2
//! CONVOKE_FAULT=delay@shard-sync:for=5s,enospc@shard-write:rank=1:times=all
//! ```
//! `KIND@POINT`, then any of `rank=R` (default: every rank), `nth=N` (which hit of the point, from 1; default 1),
//! `times=M` or `times=all` (how many hits from there on; default 1) and `for=TIME` (of a delay). Several faults are
//! separated by commas. Kinds: `kill` (as by `kill -9`), `fail` (an error of the program), `eio`, `enospc`, `edquot`,
//! `erofs` (what the system call answers) and `delay`. The points are [`POINTS`], each in front of the call that it is
//! named after; one that was passed twice is "after" for the point before it.

use convoke_data::failpoint::{self, Effect, Fault};
use rustix::io::Errno;

use crate::error::Result;
use crate::job::{JobError, nearest};

pub(crate) use convoke_data::failpoint::{hit, within};

/// The environment variable.
pub const VARIABLE: &str = "CONVOKE_FAULT";

/// The points of the loop and of a checkpoint, in the order in which they are passed.
pub const POINTS: [&str; 29] = [
    "overflow-allocate",
    "step",
    "ckpt-mkdir",
    "ckpt-made",
    "shard-create",
    "shard-write",
    "shard-close",
    "shard-sync",
    "shard-verify",
    "shard-rename",
    "shard-dir-sync",
    "ckpt-gather",
    "manifest-create",
    "manifest-write",
    "manifest-sync",
    "manifest-rename",
    "manifest-dir-sync",
    "ckpt-committed",
    "retain-unmark",
    "retain-remove",
    "ckpt-load",
    "result-create",
    "result-write",
    "result-close",
    "result-sync",
    "result-verify",
    "result-rename",
    "result-dir-sync",
    "finished",
];

/// Arms what `CONVOKE_FAULT` says for this rank.
///
/// # Errors
/// [`JobError`] for a text that means nothing: a test must not pass because its fault was misspelt.
pub fn arm_from_environment(rank: usize) -> Result<()> {
    let Some(text) = std::env::var_os(VARIABLE) else { return Ok(()) };
    let faults = parse(&text.to_string_lossy(), rank).map_err(|problem| {
        let help =
            format!("{VARIABLE} is for tests: KIND@POINT[:rank=R][:nth=N][:times=M|all][:for=TIME], or unset it");
        JobError::command_line(format!("{VARIABLE}: {problem}"), help)
    })?;
    failpoint::arm(faults);
    Ok(())
}

fn parse(text: &str, rank: usize) -> std::result::Result<Vec<Fault>, String> {
    let mut faults = Vec::new();
    for part in text.split(',') {
        let mut words = part.split(':');
        let head = words.next().unwrap_or_default();
        let (kind, point) = head.split_once('@').ok_or_else(|| format!("'{head}' is not KIND@POINT"))?;
        if !POINTS.contains(&point) {
            let near = nearest(point, &POINTS).map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
            return Err(format!("there is no point '{point}'{near}"));
        }
        let (mut skip, mut times, mut time, mut here) = (0, 1, std::time::Duration::ZERO, true);
        for word in words {
            let wrong = || format!("'{word}' is not understood");
            let (key, value) = word.split_once('=').ok_or_else(wrong)?;
            let number = || value.parse::<u64>().map_err(|_| wrong());
            match key {
                "rank" => here = number()? == rank as u64,
                "nth" => skip = number()?.checked_sub(1).ok_or_else(wrong)?,
                "times" if value == "all" => times = u64::MAX,
                "times" => times = number()?,
                "for" => time = humantime::parse_duration(value).map_err(|_| wrong())?,
                _ => return Err(wrong()),
            }
        }
        let effect = match kind {
            "kill" => Effect::Kill,
            "fail" => Effect::Fail,
            "eio" => Effect::Error(Errno::IO),
            "enospc" => Effect::Error(Errno::NOSPC),
            "edquot" => Effect::Error(Errno::DQUOT),
            "erofs" => Effect::Error(Errno::ROFS),
            "delay" => Effect::Delay(time),
            _ => return Err(format!("there is no kind '{kind}': kill, fail, eio, enospc, edquot, erofs, delay")),
        };
        if here {
            faults.push(Fault { point: point.to_owned(), effect, skip, times });
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_grammar_is_as_documented() {
        let fault = |point: &str, effect, skip, times| Fault { point: point.to_owned(), effect, skip, times };
        let text = "kill@manifest-rename:rank=0:nth=2,delay@shard-sync:for=5s,enospc@shard-write:rank=1:times=all";
        let slow = fault("shard-sync", Effect::Delay(Duration::from_secs(5)), 0, 1);
        assert_eq!(parse(text, 0).expect("right"), [fault("manifest-rename", Effect::Kill, 1, 1), slow.clone()]);
        let full = fault("shard-write", Effect::Error(Errno::NOSPC), 0, u64::MAX);
        assert_eq!(parse(text, 1).expect("right"), [slow, full]);
        for wrong in
            ["", "kill", "burn@step", "kill@shard-synk", "kill@step:nth=0", "kill@step:rank=x", "kill@step:a=1"]
        {
            assert!(parse(wrong, 0).is_err(), "{wrong}");
        }
        assert!(parse("kill@shard-synk", 0).expect_err("misspelt").contains("'shard-sync'"));
    }
}
