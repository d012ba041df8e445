//! `[problem]` of a denoiser job: what the user types.

use convoke_cluster::BadValue;
use serde::{Deserialize, Serialize};

use crate::learning::Precision;
use crate::learning::optimiser::Schedule;
use crate::prior::unet::Shape;

/// `[problem]`: images, a network, and how it learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Points of an image along each axis.
    pub points: usize,
    /// What is in the images.
    #[serde(default)]
    pub objects: ObjectsSpec,
    /// The network.
    #[serde(default = "defaults::network")]
    pub network: Shape,
    /// How it learns.
    pub training: TrainingSpec,
}

/// Random heads: a shell, a base, and ellipsoids in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectsSpec {
    /// Fewest and most ellipsoids in a head.
    #[serde(default = "defaults::parts")]
    pub parts: [usize; 2],
}

impl Default for ObjectsSpec {
    fn default() -> Self {
        Self { parts: defaults::parts() }
    }
}

/// How it learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSpec {
    /// Steps, each with new images.
    pub steps: u64,
    /// Images of a step, on all ranks together.
    #[serde(default = "defaults::batch")]
    pub batch: usize,
    /// Largest learning rate.
    #[serde(default = "defaults::rate")]
    pub rate: f64,
    /// Its course.
    #[serde(default)]
    pub schedule: Schedule,
    /// Decoupled weight decay (AdamW).
    #[serde(default)]
    pub weight_decay: f64,
    /// Largest norm of a gradient; longer ones are shortened. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// What is kept are averages of the parameters over steps, each step's weighing 1 − this.
    #[serde(default = "defaults::average")]
    pub average: f64,
    /// Mean of ln σ over the images.
    #[serde(default = "defaults::log_mean")]
    pub log_mean: f64,
    /// Its deviation.
    #[serde(default = "defaults::log_deviation")]
    pub log_deviation: f64,
    /// Precision of numbers; what is written has it too.
    #[serde(default)]
    pub precision: Precision,
    /// Steps between two looks at unseen images.
    #[serde(default = "defaults::every")]
    pub test_every: u64,
}

fn within<N: PartialOrd + std::fmt::Display>(key: &str, value: N, low: N, high: N) -> Result<(), BadValue> {
    if value >= low && value <= high {
        return Ok(());
    }
    Err(BadValue::new(format!("problem.{key}"), value, format!("{low} to {high}")))
}

impl Spec {
    /// Single values, and whether they fit each other.
    ///
    /// # Errors
    /// [`BadValue`] that names the key.
    pub fn check(&self) -> Result<(), BadValue> {
        let net = &self.network;
        within("network.channels", net.channels.len(), 1, 6)?;
        within("network.blocks", net.blocks, 1, 16)?;
        within("network.groups", net.groups, 1, 1024)?;
        within("network.embedding", net.embedding, 2, 1024)?;
        if !net.embedding.is_multiple_of(2) {
            return Err(BadValue::new("problem.network.embedding", net.embedding, "an even number: sines and cosines"));
        }
        for channels in &net.channels {
            within("network.channels", *channels, 1, 4096)?;
        }
        // Widths of what is normalised: those of levels, and of a level joined to the one below.
        let joined = net.channels.windows(2).map(|pair| pair[0] + pair[1]);
        if let Some(bad) = net.channels.iter().copied().chain(joined).find(|c| !c.is_multiple_of(net.groups)) {
            let expected = format!("a divisor of all channels, also of two levels together, which have {bad}");
            return Err(BadValue::new("problem.network.groups", net.groups, expected));
        }
        within("points", self.points, 4, 4096)?;
        let multiple = net.multiple();
        if !self.points.is_multiple_of(multiple) {
            let expected = format!("a multiple of {multiple}, for {} levels", net.channels.len());
            return Err(BadValue::new("problem.points", self.points, expected));
        }
        let [low, high] = self.objects.parts;
        if low > high || high > 1000 {
            let expected = "the fewest and the most, up to 1000";
            return Err(BadValue::new("problem.objects.parts", format!("[{low}, {high}]"), expected));
        }
        let training = &self.training;
        within("training.steps", training.steps, 1, 100_000_000)?;
        within("training.batch", training.batch, 1, 1_000_000)?;
        within("training.rate", training.rate, 1e-12, 1e3)?;
        within("training.weight_decay", training.weight_decay, 0.0, 1e3)?;
        within("training.average", training.average, 0.0, 1.0)?;
        within("training.log_mean", training.log_mean, -20.0, 20.0)?;
        within("training.log_deviation", training.log_deviation, 0.0, 10.0)?;
        within("training.test_every", training.test_every, 1, u64::MAX)?;
        training.clip.map_or(Ok(()), |clip| within("training.clip", clip, 1e-12, 1e12))
    }
}

mod defaults {
    use super::Shape;

    pub fn network() -> Shape {
        Shape { channels: vec![32, 64, 96], blocks: 2, groups: 8, embedding: 32 }
    }

    pub fn parts() -> [usize; 2] {
        [5, 10]
    }

    pub fn batch() -> usize {
        16
    }

    pub fn rate() -> f64 {
        1e-3
    }

    pub fn average() -> f64 {
        0.999
    }

    pub fn log_mean() -> f64 {
        -1.6
    }

    pub fn log_deviation() -> f64 {
        1.4
    }

    pub fn every() -> u64 {
        100
    }
}
