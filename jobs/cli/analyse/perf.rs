//! `perf`: where the time of runs went, and how runs of one job scale.

use convoke_cluster::{Error, JobError};
use serde::Serialize;
use serde_json::Value;

use super::attempts::{self, Attempt};
use super::number::{quantity, seconds, short};
use super::source::{Run, Source};
use super::summary::{rows, table};

/// Seconds of the attempts of a run that ended in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Phases {
    /// In the workload's steps.
    pub steps: f64,
    /// Within them, in communication: mean over the ranks. Waiting for a slower rank is a part of it.
    pub communication_mean: f64,
    /// The same of the rank with most.
    pub communication_most: f64,
    /// In checkpoints.
    pub checkpoints: f64,
    /// In computing and writing the results.
    pub results: f64,
}

/// A run's performance.
#[derive(Debug, Clone, Serialize)]
pub struct Performance {
    /// The directory.
    pub run: String,
    /// Hash of its job file.
    pub spec_xxh3_128: String,
    /// Ranks of the last attempt.
    pub ranks: u64,
    /// Threads of each.
    pub threads: u64,
    /// Device of the ranks.
    pub device: String,
    /// Attempts.
    pub attempts: usize,
    /// Steps done.
    pub steps: u64,
    /// Wall time of all attempts.
    pub seconds: f64,
    /// Where it went; absent if no attempt ended in order.
    pub phases: Option<Phases>,
    /// Steps per second of stepping.
    pub steps_per_second: Option<f64>,
    /// Bytes that rank 0 sent in its steps.
    pub bytes_sent: Option<f64>,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Bytes of the newest.
    pub checkpoint_bytes: u64,
    /// Seconds for one.
    pub checkpoint_seconds: Option<f64>,
    /// Seconds between two, as planned (Young's interval from that time and `checkpoint.node_mtbf`).
    pub planned_interval: Option<f64>,
}

/// Runs side by side.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The runs, in ascending order of ranks × threads.
    pub runs: Vec<Performance>,
    /// How they scale, if there are several.
    pub scaling: Option<Scaling>,
}

/// Time against workers.
#[derive(Debug, Serialize)]
pub struct Scaling {
    /// `strong` or `weak`.
    pub kind: &'static str,
    /// Ranks × threads.
    pub workers: Vec<u64>,
    /// Seconds of the steps, or of the run where the steps are not known.
    pub seconds: Vec<f64>,
    /// Speed-up over the first row; for weak scaling, with the problem.
    pub speed_up: Vec<f64>,
    /// Speed-up over the ratio of workers.
    pub efficiency: Vec<f64>,
    /// Share of the work that does not run in parallel: least squares through Amdahl's law (strong)
    /// or Gustafson's (weak), relative to the first row.
    pub serial_share: Option<f64>,
    /// Whether all runs have the same job file.
    pub same_job: bool,
}

/// Gathers the figures of runs.
///
/// # Errors
/// A path that is no run directory.
pub fn gather(sources: &[Source], weak: bool) -> Result<Comparison, Error> {
    let mut runs = sources.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    runs.sort_by_key(|run| run.ranks * run.threads);
    let scaling = (runs.len() > 1).then(|| scaling(&runs, weak));
    Ok(Comparison { runs, scaling })
}

fn one(source: &Source) -> Result<Performance, Error> {
    let Some(run) = &source.run else {
        let message = format!("{}: is no run directory", source.path.display());
        return Err(JobError::command_line(
            message,
            "a result file alone does not know how long it took: name the run",
        )
        .into());
    };
    let tries = attempts::attempts(&run.events, false);
    let last = tries.last();
    let phases = phases(&run.events);
    let total = |get: fn(&Attempt) -> f64| tries.iter().map(get).filter(|v| v.is_finite()).sum::<f64>();
    let checkpoints = tries.iter().map(|a| a.checkpoints.count).sum();
    let checkpoint_seconds = (checkpoints > 0).then(|| total(|a| a.checkpoints.seconds) / checkpoints as f64);
    // Steps of attempts that ended in order: only their time of stepping is known.
    let ended = tries.iter().filter(|a| matches!(a.state, attempts::State::Complete | attempts::State::Stopped));
    let done: u64 = ended.map(|a| a.last_step - a.first_step.min(a.last_step)).sum();
    Ok(Performance {
        run: source.path.display().to_string(),
        spec_xxh3_128: run.lock.spec_xxh3_128.clone(),
        ranks: last.map_or(0, |a| a.ranks),
        threads: last.map_or(0, |a| a.threads),
        device: last.map_or(String::new(), |a| a.device.clone()),
        attempts: tries.len(),
        steps: last.map_or(0, |a| a.last_step),
        seconds: total(|a| a.seconds),
        phases,
        steps_per_second: phases.filter(|p| p.steps > 0.0).map(|p| done as f64 / p.steps),
        bytes_sent: run.events.iter().rev().find_map(|e| e["bytes_sent"].as_f64()),
        checkpoints,
        checkpoint_bytes: tries.iter().rev().map(|a| a.checkpoints.bytes).find(|b| *b > 0).unwrap_or(0),
        checkpoint_seconds,
        planned_interval: checkpoint_seconds.and_then(|cost| planned_interval(run, cost)),
    })
}

/// Sums over the attempts that ended in order.
fn phases(events: &[Value]) -> Option<Phases> {
    let told: Vec<&Value> = events.iter().map(|e| &e["phases"]).filter(|p| p.is_object()).collect();
    let sum = |key: &str| told.iter().filter_map(|p| p[key].as_f64()).sum();
    (!told.is_empty()).then(|| Phases {
        steps: sum("steps"),
        communication_mean: sum("communication_mean"),
        communication_most: sum("communication_most"),
        checkpoints: sum("checkpoints"),
        results: sum("results"),
    })
}

fn planned_interval(run: &Run, cost: f64) -> Option<f64> {
    let rules = &run.lock.resolved["checkpoint"];
    let span = |key: &str| humantime::parse_duration(rules[key].as_str()?).ok();
    if rules["every_steps"].is_u64() {
        return None;
    }
    let young =
        || Some(convoke_cluster::checkpoint::interval(std::time::Duration::from_secs_f64(cost), span("node_mtbf")?));
    span("every").or_else(young).map(|t| t.as_secs_f64())
}

fn scaling(runs: &[Performance], weak: bool) -> Scaling {
    let stepping = runs.iter().all(|run| run.phases.is_some());
    let time = |run: &Performance| run.phases.filter(|_| stepping).map_or(run.seconds, |p| p.steps);
    let times: Vec<f64> = runs.iter().map(time).collect();
    let workers: Vec<u64> = runs.iter().map(|run| run.ranks * run.threads).collect();
    let ratio: Vec<f64> = workers.iter().map(|&w| w as f64 / workers[0].max(1) as f64).collect();
    let gain = |k: usize| times[0] / times[k];
    let speed_up: Vec<f64> = (0..runs.len()).map(|k| if weak { ratio[k] * gain(k) } else { gain(k) }).collect();
    Scaling {
        kind: if weak { "weak" } else { "strong" },
        efficiency: speed_up.iter().zip(&ratio).map(|(s, r)| s / r).collect(),
        serial_share: if weak { gustafson(&ratio, &speed_up) } else { amdahl(&ratio, &times) },
        same_job: runs.iter().all(|run| run.spec_xxh3_128 == runs[0].spec_xxh3_128),
        workers,
        seconds: times,
        speed_up,
    }
}

/// t = a + b/p by least squares (G. Amdahl, 1967): the serial share is a / (a + b).
fn amdahl(ratio: &[f64], times: &[f64]) -> Option<f64> {
    let x: Vec<f64> = ratio.iter().map(|p| 1.0 / p).collect();
    let (b, a) = line(&x, times)?;
    let share = a / (a + b);
    share.is_finite().then(|| share.clamp(0.0, 1.0))
}

/// S = p − s (p − 1) by least squares (J. Gustafson, 1988).
fn gustafson(ratio: &[f64], speed_up: &[f64]) -> Option<f64> {
    let sum = |of: &dyn Fn(f64, f64) -> f64| ratio.iter().zip(speed_up).map(|(&p, &s)| of(p, s)).sum::<f64>();
    let share = sum(&|p, s| (p - s) * (p - 1.0)) / sum(&|p, _| (p - 1.0) * (p - 1.0));
    share.is_finite().then(|| share.clamp(0.0, 1.0))
}

/// Slope and intercept of the least-squares line; nothing if all x are the same.
pub fn line(x: &[f64], y: &[f64]) -> Option<(f64, f64)> {
    let n = x.len() as f64;
    let mean = |v: &[f64]| v.iter().sum::<f64>() / n;
    let (mx, my) = (mean(x), mean(y));
    let (sxx, sxy) =
        x.iter().zip(y).fold((0.0, 0.0), |(xx, xy), (a, b)| (xx + (a - mx) * (a - mx), xy + (a - mx) * (b - my)));
    let slope = sxy / sxx;
    slope.is_finite().then_some((slope, my - slope * mx))
}

fn per_cent(part: f64, whole: f64) -> String {
    if whole > 0.0 { format!("{:.1} %", 100.0 * part / whole) } else { String::new() }
}

impl Comparison {
    /// The figures as text.
    pub fn text(&self) -> String {
        let mut parts: Vec<String> = self.runs.iter().map(Performance::text).collect();
        parts.extend(self.scaling.as_ref().map(Scaling::text));
        parts.join("\n\n")
    }
}

impl Performance {
    fn text(&self) -> String {
        let mut t = table(&["", "", "", ""], &[1, 2]);
        let mut add = |what: &str, value: String, share: String, note: &str| {
            t.add_row(vec![what.to_owned(), value, share, note.to_owned()]);
        };
        let rate = self.steps_per_second.map_or(String::new(), |r| format!("{} steps/s", short(r)));
        if let Some(p) = self.phases {
            let inside = p.steps + p.checkpoints + p.results;
            add("steps", seconds(p.steps), per_cent(p.steps, self.seconds), &rate);
            let most = format!("of the steps, mean of the ranks; most {}", per_cent(p.communication_most, p.steps));
            add("  communication", seconds(p.communication_mean), per_cent(p.communication_mean, p.steps), &most);
            add(
                "checkpoints",
                seconds(p.checkpoints),
                per_cent(p.checkpoints, self.seconds),
                &self.about_checkpoints(),
            );
            add("results", seconds(p.results), per_cent(p.results, self.seconds), "");
            let rest = (self.seconds - inside).max(0.0);
            add("rest", seconds(rest), per_cent(rest, self.seconds), "flags, events, attempts that were killed");
        } else {
            add("phases", "unknown".to_owned(), String::new(), "no attempt has ended in order");
        }
        add("all", seconds(self.seconds), String::new(), "");
        if let Some(sent) = self.bytes_sent {
            add("sent by rank 0", quantity(sent, "bytes"), String::new(), "in its steps");
        }
        let plural = if self.attempts == 1 { "" } else { "s" };
        format!(
            "{}: {} steps on {} × {} ({}), {} attempt{plural}\n{}",
            self.run,
            self.steps,
            self.ranks,
            self.threads,
            self.device,
            self.attempts,
            rows(&t)
        )
    }

    fn about_checkpoints(&self) -> String {
        let Some(cost) = self.checkpoint_seconds else { return "none".to_owned() };
        let size = quantity(self.checkpoint_bytes as f64, "bytes");
        let speed = quantity(self.checkpoint_bytes as f64 / cost, "bytes");
        let planned = self.planned_interval.map_or(String::new(), |interval| {
            format!("; planned every {}, {}", seconds(interval), per_cent(cost, interval + cost))
        });
        format!("{} × {size}, {} each, {speed}/s{planned}", self.checkpoints, seconds(cost))
    }
}

impl Scaling {
    fn text(&self) -> String {
        let mut t = table(&["ranks × threads", "seconds", "speed-up", "efficiency"], &[0, 1, 2, 3]);
        for k in 0..self.workers.len() {
            let efficiency = format!("{:.1} %", 100.0 * self.efficiency[k]);
            t.add_row(vec![self.workers[k].to_string(), short(self.seconds[k]), short(self.speed_up[k]), efficiency]);
        }
        let law = if self.kind == "weak" { "Gustafson" } else { "Amdahl" };
        let mut text = format!("Scaling ({})\n{}", self.kind, rows(&t));
        if let Some(share) = self.serial_share {
            text += &format!("\n  serial share {:.2} % (fit of {law}'s law)", 100.0 * share);
        }
        if self.kind == "strong" && !self.same_job {
            text += "\n  WARNING: the runs have different job files; for a problem that grew with the ranks use --weak";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_laws_are_recovered_from_times_that_follow_them() {
        let ratio = [1.0, 2.0, 4.0, 8.0];
        let times = ratio.map(|p| 10.0 * (0.1 + 0.9 / p));
        assert!((amdahl(&ratio, &times).unwrap_or(0.0) - 0.1).abs() < 1e-12);
        let speed_up = ratio.map(|p| p - 0.25 * (p - 1.0));
        assert!((gustafson(&ratio, &speed_up).unwrap_or(0.0) - 0.25).abs() < 1e-12);
        assert_eq!(amdahl(&[1.0, 1.0], &[3.0, 3.0]), None);
    }
}
