//! What checkpoints cost, how often they pay, and what that was predicted to come to.

use std::time::Duration;

use serde::Serialize;

/// Young's interval between checkpoints: `sqrt(2 δ M)` for a cost `δ` and a mean time `M` between
/// failures, held between a minute (or `50 δ`, so that the overhead stays below 2 %) and an hour.
///
/// Source: J. W. Young, Comm. ACM 17 (1974) 530.
pub fn interval(cost: Duration, mtbf: Duration) -> Duration {
    let (delta, m) = (cost.as_secs_f64(), mtbf.as_secs_f64());
    let best = (2.0 * delta * m).sqrt();
    let low = f64::max(60.0, 50.0 * delta);
    Duration::from_secs_f64(best.clamp(low, f64::max(low, 3600.0)))
}

/// The cost of one checkpoint, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// The computation stood still.
    pub held: f64,
    /// A thread used a processor while the computation went on: at most this much was taken from it.
    pub beside: f64,
    /// From the begin to the commit.
    pub whole: f64,
}

impl Cost {
    /// `δ`: what the computation lost, at most.
    pub fn taken(&self) -> f64 {
        self.held + self.beside
    }
}

/// The costs of one attempt's checkpoints.
#[derive(Debug, Clone, Default)]
pub struct Costs {
    costs: Vec<Cost>,
    /// The slowest checkpoint of the attempts before.
    before: Option<Cost>,
    predicted: Option<f64>,
}

/// The part of the time that checkpoints took, for events, summaries and people.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Overhead {
    /// Checkpoints committed in this attempt.
    pub checkpoints: u64,
    /// Seconds that the computation stood still.
    pub held_seconds: f64,
    /// Processor seconds of threads beside the computation, of the busiest rank of each checkpoint.
    pub beside_seconds: f64,
    /// Part of the loop's time that both took together.
    pub seen: f64,
    /// What was to be expected before the last checkpoint began: mean cost / interval.
    pub predicted: Option<f64>,
}

impl Costs {
    /// `before`: the slowest checkpoint of the attempts before, so that the first interval and the first reserve of
    /// this attempt are not guesses.
    pub fn after(before: Option<Cost>) -> Self {
        Self { before, ..Self::default() }
    }

    /// One more.
    pub fn push(&mut self, cost: Cost) {
        self.costs.push(cost);
    }

    /// Costs of the attempt so far.
    pub fn all(&self) -> &[Cost] {
        &self.costs
    }

    /// The 95th percentile of a part of the cost; 0 if nothing is known.
    fn p95(&self, part: fn(&Cost) -> f64) -> f64 {
        let mut values: Vec<f64> = self.costs.iter().map(part).collect();
        if values.is_empty() {
            return self.before.as_ref().map_or(0.0, part);
        }
        values.sort_by(f64::total_cmp);
        values[(values.len() * 95).div_ceil(100) - 1]
    }

    /// How long a checkpoint takes from its begin to its commit, at the 95th percentile.
    pub fn whole(&self) -> f64 {
        self.p95(|c| c.whole)
    }

    /// The interval for a mean time `mtbf` between failures; never so short that one checkpoint would wait for
    /// the one before.
    pub fn interval(&self, mtbf: Duration) -> Duration {
        let best = interval(Duration::from_secs_f64(self.p95(Cost::taken)), mtbf);
        best.max(Duration::from_secs_f64(2.0 * self.whole()))
    }

    /// Notes, before a checkpoint begins, the overhead that the ones before let expect at this interval.
    pub fn predict(&mut self, interval: Duration) {
        if !self.costs.is_empty() && !interval.is_zero() {
            let mean = self.costs.iter().map(Cost::taken).sum::<f64>() / self.costs.len() as f64;
            self.predicted = Some(mean / (interval.as_secs_f64() + mean));
        }
    }

    /// Predicted and seen, `elapsed` seconds after the loop began.
    pub fn overhead(&self, elapsed: f64) -> Overhead {
        // An empty sum is -0.
        let sum = |part: fn(&Cost) -> f64| self.costs.iter().map(part).sum::<f64>() + 0.0;
        Overhead {
            checkpoints: self.costs.len() as u64,
            held_seconds: sum(|c| c.held),
            beside_seconds: sum(|c| c.beside),
            seen: if elapsed > 0.0 { sum(Cost::taken) / elapsed } else { 0.0 },
            predicted: self.predicted,
        }
    }
}

impl Overhead {
    /// For people; `None` if there was no checkpoint.
    pub fn line(&self) -> Option<String> {
        if self.checkpoints == 0 {
            return None;
        }
        let predicted = self.predicted.map(|p| format!(", {:.2} % predicted", p * 100.0)).unwrap_or_default();
        Some(format!(
            "checkpoints: {} written, the computation stood still for {:.2} s and shared its cores for {:.2} s ({:.2} %{predicted})",
            self.checkpoints,
            self.held_seconds,
            self.beside_seconds,
            self.seen * 100.0,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn youngs_interval_has_the_documented_values() {
        let day = 86_400.0;
        let minutes = |delta: f64, nodes: f64| {
            let mtbf = Duration::from_secs_f64(30.0 * day / nodes);
            interval(Duration::from_secs_f64(delta), mtbf).as_secs_f64() / 60.0
        };
        assert!((minutes(5.0, 64.0) - 10.6).abs() < 0.1);
        assert!((minutes(0.5, 4.0) - 13.4).abs() < 0.3);
        assert_eq!(minutes(0.0, 1.0), 1.0); // free: still not more often than each minute
    }

    #[test]
    fn overhead_is_cost_over_time_and_predicted_from_the_ones_before() {
        let cost = |held| Cost { held, beside: 1.0, whole: 10.0 };
        let mut costs = Costs::after(Some(cost(7.0)));
        assert_eq!((costs.whole(), costs.overhead(5.0).line()), (10.0, None));
        costs.predict(Duration::from_secs(98));
        assert_eq!(costs.overhead(5.0).predicted, None, "nothing was measured yet");
        (0..19).for_each(|_| costs.push(cost(1.0)));
        costs.predict(Duration::from_secs(98));
        costs.push(cost(3.0));
        let overhead = costs.overhead(1000.0);
        assert_eq!((overhead.checkpoints, overhead.held_seconds, overhead.beside_seconds), (20, 22.0, 20.0));
        assert_eq!((overhead.seen, overhead.predicted), (0.042, Some(0.02)));
        assert_eq!(costs.p95(Cost::taken), 2.0, "one of twenty is beyond the 95th percentile");
        // 50 times the cost, but at least twice the time that one takes.
        assert_eq!(costs.interval(Duration::from_secs(1)).as_secs(), 100);
        costs.push(Cost { whole: 60.0, ..cost(1.0) });
        costs.push(Cost { whole: 60.0, ..cost(1.0) });
        assert_eq!(costs.interval(Duration::from_secs(1)).as_secs(), 120);
    }
}
