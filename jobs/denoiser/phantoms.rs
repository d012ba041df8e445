//! Images without end: slices of random objects, each a function of (seed, number).

use convoke_data::problems::phantom::Phantom;
use convoke_kernels::Philox;
use rayon::prelude::*;

use super::spec::ObjectsSpec;

/// Streams of random numbers: objects to train on, those nobody trains on, those that mean and deviation come from.
const TRAINING: u64 = 0x6f62_6a65_6374_7321; // "objects!"
const UNSEEN: u64 = 0x756e_7365_656e_2121; // "unseen!!"
const LAW: u64 = 0x6c61_7721_6c61_7721; // "law!law!"
/// Points of an object along each axis of a point of an image.
const SUPERSAMPLE: usize = 3;

/// Images of one kind and size.
#[derive(Debug, Clone)]
pub struct Images {
    objects: ObjectsSpec,
    points: usize,
}

impl Images {
    /// Of `points` along each axis.
    pub fn new(objects: &ObjectsSpec, points: usize) -> Self {
        Self { objects: objects.clone(), points }
    }

    /// The object of a number, and where its random numbers go on.
    fn object(&self, seed: u64, stream: u64, number: u64) -> (Phantom, Philox, u64) {
        let random = Philox::new(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15), stream);
        let mut drawn = 0;
        let mut uniform = || {
            drawn += 1;
            random.uniform(drawn)
        };
        let [low, high] = self.objects.parts;
        let parts = low + ((high - low + 1) as f64 * uniform()) as usize;
        let object = Phantom::random_ellipsoids(parts.min(high), &mut uniform);
        (object, random, drawn)
    }

    /// A slice of the object of a number, `[y, x]`, anywhere in the middle seven tenths of it.
    fn slice(&self, seed: u64, stream: u64, number: u64) -> Vec<f32> {
        let (object, random, drawn) = self.object(seed, stream, number);
        let n = self.points;
        let height = 0.5 + 0.7 * (random.uniform(drawn + 1) - 0.5);
        let at = ((height * n as f64) as usize).min(n - 1);
        object.voxels([n; 3], at..at + 1, SUPERSAMPLE)
    }

    /// Training images of some numbers, one after another.
    pub fn training(&self, seed: u64, numbers: impl Iterator<Item = u64>) -> Vec<f32> {
        let numbers: Vec<u64> = numbers.collect();
        let images: Vec<Vec<f32>> = numbers.into_par_iter().map(|i| self.slice(seed, TRAINING, i)).collect();
        images.concat()
    }

    /// An image that is never trained on.
    pub fn unseen(&self, seed: u64, number: usize) -> Vec<f32> {
        self.slice(seed, UNSEEN, number as u64)
    }

    /// Mean and deviation of all points of so many images.
    pub fn law(&self, seed: u64, count: usize) -> [f64; 2] {
        let images: Vec<Vec<f32>> = (0..count as u64).into_par_iter().map(|i| self.slice(seed, LAW, i)).collect();
        let all = || images.iter().flatten().map(|v| f64::from(*v));
        let n = (count * self.points * self.points) as f64;
        let mean = all().sum::<f64>() / n;
        [mean, (all().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt()]
    }
}
