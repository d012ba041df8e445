//! `cargo xtask licences`: every dependency may be used by a program under MIT or Apache-2.0.

use serde_json::Value;
use spdx::{Expression, ParseMode};
use xshell::{Shell, cmd};

use crate::error::{Error, Result};
use crate::say;

/// Licences that fit. MPL-2.0 binds the files it covers, which we use as they are.
const ALLOWED: [&str; 17] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "bzip2-1.0.6",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "NCSA",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
    "libpng-2.0",
];

/// Exceptions only add rights; these are the ones that occur.
const ALLOWED_EXCEPTIONS: [&str; 1] = ["LLVM-exception"];

/// Options of `cargo xtask licences`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  cargo xtask licences    exits with 1 if a licence does not fit")]
pub struct Args {}

/// Reads the locked dependencies and lists the offenders.
pub fn licences(sh: &Shell) -> Result<()> {
    let report = report(sh)?;
    say::table(["dependencies", "licence"], report.counts.iter().map(|(licence, n)| [n.to_string(), licence.clone()]));
    if report.offenders.is_empty() {
        say::line(format!("\n{} dependencies, all licences fit", report.counts.iter().map(|(_, n)| n).sum::<usize>()));
        return Ok(());
    }
    say::heading("Not on the list");
    say::table(["package", "licence", "why"], report.offenders.iter().cloned());
    Err(Error::Licences { count: report.offenders.len() })
}

struct Report {
    counts: Vec<(String, usize)>,
    offenders: Vec<[String; 3]>,
}

fn report(sh: &Shell) -> Result<Report> {
    let text = cmd!(sh, "cargo metadata --format-version 1 --locked").quiet().read()?;
    let metadata: Value =
        serde_json::from_str(&text).map_err(|source| Error::Json { program: "cargo metadata", source })?;
    let mut report = Report { counts: Vec::new(), offenders: Vec::new() };
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
        let licence = text("license");
        match report.counts.iter_mut().find(|(known, _)| *known == licence) {
            Some((_, n)) => *n += 1,
            None => report.counts.push((licence.clone(), 1)),
        }
        if let Err(why) = judge(&licence) {
            report.offenders.push([format!("{} {}", text("name"), text("version")), licence, why]);
        }
    }
    report.counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    Ok(report)
}

/// Ok if the rights we need follow from the expression; else why not.
fn judge(licence: &str) -> std::result::Result<(), String> {
    if licence.is_empty() {
        return Err("no licence is stated".into());
    }
    // Old packages write "MIT/Apache-2.0" for OR.
    let mode = ParseMode { allow_slash_as_or_operator: true, ..ParseMode::STRICT };
    let expression = Expression::parse_mode(licence, mode).map_err(|error| error.reason.to_string())?;
    let failures = expression.evaluate_with_failures(|request| {
        let allowed = request.license.id().is_some_and(|id| ALLOWED.contains(&id.name));
        let exception = request.addition.as_ref().map(ToString::to_string);
        allowed && exception.is_none_or(|name| ALLOWED_EXCEPTIONS.contains(&name.as_str()))
    });
    failures.map_err(|failed| {
        let names: Vec<_> = failed.iter().map(|f| f.req.to_string()).collect();
        format!("{} is not on the list", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_side_of_or_is_enough() {
        for licence in
            ["MIT OR GPL-3.0-only", "GPL-2.0-only OR MIT", "MIT/Apache-2.0", "MIT OR Apache-2.0 OR LGPL-2.1-or-later"]
        {
            assert_eq!(judge(licence), Ok(()), "{licence}");
        }
    }

    #[test]
    fn both_sides_of_and_are_needed() {
        assert_eq!(judge("(MIT OR Apache-2.0) AND Unicode-3.0"), Ok(()));
        let why = judge("MIT AND GPL-3.0-only").unwrap_err();
        assert!(why.contains("GPL-3.0-only"), "{why}");
    }

    #[test]
    fn and_binds_more_than_or() {
        assert_eq!(judge("MIT OR ISC AND GPL-3.0-only"), Ok(()));
        assert!(judge("(MIT OR ISC) AND GPL-3.0-only").is_err());
    }

    #[test]
    fn exceptions_are_named() {
        assert_eq!(judge("Apache-2.0 WITH LLVM-exception"), Ok(()));
        assert!(judge("GPL-2.0-only WITH Classpath-exception-2.0").is_err());
        assert!(judge("Apache-2.0 WITH Classpath-exception-2.0").is_err());
    }

    #[test]
    fn unknown_and_missing_licences_are_refused() {
        assert_eq!(judge("").unwrap_err(), "no licence is stated");
        for licence in ["LicenseRef-Ours", "Nonsense", "MIT OR", "AGPL-3.0-only", "SSPL-1.0"] {
            assert!(judge(licence).is_err(), "{licence}");
        }
    }

    #[test]
    fn every_name_on_the_list_is_an_spdx_name() {
        for name in ALLOWED {
            assert!(spdx::license_id(name).is_some_and(|id| id.name == name), "{name}");
            assert_eq!(judge(name), Ok(()), "{name}");
        }
    }
}
