//! The batch script: a pure function of what is asked for.
//!
//! Directives hold integers and [`super::Token`]s only. There is no path in it: it is started in the run directory, where
//! `convoke` is a link to the program. Its last line replaces the shell by the supervisor, so that the batch system's
//! signals reach the supervisor itself.

use std::fmt::Write;

use super::{Site, Slurm};

/// What a batch script asks for.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Version and commit of the program, for the reader.
    pub made_by: &'a str,
    /// Name of the job, as [`crate::job::Job::name`] allows it.
    pub name: &'a str,
    /// Identity of the run, hexadecimal digits.
    pub run_id: &'a str,
    /// Processes and what each needs.
    pub tasks: Tasks,
    /// Time limit of the batch job.
    pub minutes: u64,
    /// How long before the limit the supervisor wants to be told.
    pub warn_seconds: u64,
    /// The job's wishes.
    pub slurm: &'a Slurm,
    /// The cluster's ways.
    pub site: &'a Site,
    /// An array of that many jobs, and how many of them may run at once.
    pub array: Option<(u64, Option<u64>)>,
    /// Words after `convoke` in the last line: ours, never a user's.
    pub command: &'a [&'a str],
}

/// Processes, and what each needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tasks {
    /// Number of ranks.
    pub ranks: u64,
    /// Cores of each.
    pub threads: u64,
    /// Memory of each core in MiB.
    pub mib_per_core: Option<u64>,
}

/// The text of the batch script.
pub fn script(request: &Request<'_>) -> String {
    let Request { slurm, site, tasks, .. } = request;
    let id = request.run_id;
    let mut text = format!(
        "#!/bin/bash\n# made by {} for run {id}; changes here are lost when the job is submitted again\n",
        request.made_by
    );
    let mut directive = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "#SBATCH --{name}={value}");
    };
    directive("job-name", &format_args!("convoke-{}-{}", request.name, &id[..id.len().min(6)]));
    directive("comment", &format_args!("convoke:{id}"));
    directive("ntasks", &tasks.ranks);
    if let Some(per_node) = slurm.ranks_per_node {
        directive("ntasks-per-node", &per_node);
        directive("nodes", &tasks.ranks.div_ceil(u64::from(per_node.max(1))));
    }
    directive("cpus-per-task", &tasks.threads);
    if let Some(mib) = tasks.mib_per_core {
        directive("mem-per-cpu", &format_args!("{mib}M"));
    }
    if slurm.gpus_per_rank > 0 {
        directive("gpus-per-task", &slurm.gpus_per_rank);
    }
    directive("time", &request.minutes);
    let (partition, account) = (slurm.partition.as_ref().or(site.partition.as_ref()), slurm.account.as_ref());
    let words = [
        ("partition", partition),
        ("account", account.or(site.account.as_ref())),
        ("qos", slurm.qos.as_ref()),
        ("reservation", slurm.reservation.as_ref()),
    ];
    for (name, word) in words.into_iter().filter_map(|(name, word)| Some((name, word?))) {
        directive(name, word);
    }
    if !slurm.constraint.is_empty() {
        directive("constraint", &joined(&slurm.constraint, "&"));
    }
    if !slurm.exclude.is_empty() {
        directive("exclude", &joined(&slurm.exclude, ","));
    }
    if !slurm.after.is_empty() {
        directive("dependency", &format_args!("afterany:{}", joined(&slurm.after, ":")));
        directive("kill-on-invalid-dep", &"yes");
    }
    if let Some((count, at_once)) = request.array {
        let at_once = at_once.map_or_else(String::new, |n| format!("%{n}"));
        directive("array", &format_args!("0-{}{at_once}", count.max(1) - 1));
    }
    directive("signal", &format_args!("B:USR1@{}", request.warn_seconds));
    directive("open-mode", &"append");
    directive("output", &if request.array.is_some() { "logs/slurm-%A_%a.out" } else { "logs/slurm-%j.out" });
    // All of what the hand-over passes, which is next to nothing unless the site wants it (`Environment`). With NIL or NONE,
    // Slurm runs a login shell for each job to have an environment: a tenth of a second for each task of an array.
    directive("export", &"ALL");
    text.push_str("#SBATCH --requeue\n");
    if slurm.exclusive {
        text.push_str("#SBATCH --exclusive\n");
    }
    // A warning that comes while modules load must not end the job; the supervisor knows its time limit all the same.
    text.push_str("trap '' USR1\nset -eu\numask 077\n");
    if !site.pass_environment {
        text.push_str("export PATH=/usr/local/bin:/usr/bin:/bin LC_ALL=C\n");
    }
    if !site.pass_environment && !site.modules.is_empty() {
        // Where `module` comes from; such files are not written for `set -u`.
        text.push_str("set +u; . /etc/profile; set -u\n");
    }
    for module in &site.modules {
        let _ = writeln!(text, "module load {}", quoted(module));
    }
    for line in &site.setup {
        let _ = writeln!(text, "{line}");
    }
    for (name, value) in &site.environment {
        let _ = writeln!(text, "export {name}={}", quoted(value));
    }
    text.push_str("export OMP_NUM_THREADS=\"${SLURM_CPUS_PER_TASK:-1}\"\n");
    let _ = writeln!(text, "exec ./convoke {}", request.command.join(" "));
    text
}

fn joined<T: ToString>(items: &[T], between: &str) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

/// In single quotes, as every shell reads it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request<'a>(slurm: &'a Slurm, site: &'a Site) -> Request<'a> {
        Request {
            made_by: "convoke 0.1.0 (0123abcd)",
            name: "gp3d-heat",
            run_id: "7f3a91c2",
            tasks: Tasks { ranks: 8, threads: 4, mib_per_core: Some(3500) },
            minutes: 240,
            warn_seconds: 180,
            slurm,
            site,
            array: None,
            command: &["_supervise"],
        }
    }

    #[test]
    fn scripts_are_those_of_the_golden_files() {
        let (slurm, site) = (Slurm::default(), Site::find("generic").unwrap());
        assert_eq!(script(&request(&slurm, &site)), include_str!("golden/generic.sbatch"));
        let word = |w: &str| w.parse().unwrap();
        let slurm = Slurm {
            partition: Some(word("gpu")),
            account: Some(word("abc123")),
            qos: Some(word("long")),
            reservation: Some(word("maint")),
            constraint: vec![word("a100"), word("ib")],
            exclude: vec![word("n[3-4]"), word("n9")],
            ranks_per_node: Some(4),
            gpus_per_rank: 1,
            exclusive: true,
            after: vec![811, 812],
            ..Slurm::default()
        };
        let mut site = Site::find("local").unwrap();
        site.modules = vec!["openmpi/4.1".into()];
        site.setup = vec!["ulimit -c 0".into()];
        site.environment.insert("GREETING".into(), "it's $HOME".into());
        assert_eq!(script(&request(&slurm, &site)), include_str!("golden/everything.sbatch"));
        let array = Request {
            array: Some((1000, Some(16))),
            command: &["_point", "--first", "2000"],
            ..request(&slurm, &site)
        };
        let text = script(&array);
        assert!(text.contains("#SBATCH --array=0-999%16\n") && text.ends_with("exec ./convoke _point --first 2000\n"));
    }

    #[test]
    fn a_quoted_word_is_one_word_of_a_shell() {
        let word = "a'b $(c) `d` \"e\"\n;f";
        let output = std::process::Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(word))).output();
        assert_eq!(String::from_utf8_lossy(&output.unwrap().stdout), word);
    }
}
