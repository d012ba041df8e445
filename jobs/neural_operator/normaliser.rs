//! What is taken out of fields before an operator sees them.

use convoke_cluster::Comm;
use convoke_cluster::comm::CommError;

use super::spec::Normalise;
use crate::learning::real::Real;

/// Means and deviations, one for each channel or for each channel and point.
#[derive(Debug, Clone)]
pub struct Normaliser<T> {
    mean: Vec<T>,
    deviation: Vec<T>,
}

/// Added to deviations: fields that are the same in all samples stay numbers.
const TINY: f64 = 1e-7;

impl<T: Real> Normaliser<T> {
    /// Of fields with `channels`, whose points the ranks of `space` share: then not one for each point. Collective over them.
    ///
    /// # Errors
    /// As the exchange.
    pub fn of(kind: Normalise, fields: &[Vec<T>], channels: usize, space: Option<&Comm>) -> Result<Self, CommError> {
        let size = fields.first().map_or(1, Vec::len);
        let groups = match kind {
            Normalise::None => {
                return Ok(Self { mean: vec![T::of(0.0); channels], deviation: vec![T::of(1.0); channels] });
            }
            Normalise::Channels => channels,
            Normalise::Points => size,
        };
        let run = size / groups;
        let sum = |values: &mut [f64]| space.map_or(Ok(()), |comm| comm.all_sum(values));
        let mut count = [(fields.len() * run) as f64];
        sum(&mut count)?;
        let [count] = count;
        let mut mean = vec![0.0; groups];
        for field in fields {
            field.iter().enumerate().for_each(|(i, v)| mean[i / run] += v.wide() / count);
        }
        sum(&mut mean)?;
        let mut square = vec![0.0; groups];
        for field in fields {
            field.iter().enumerate().for_each(|(i, v)| square[i / run] += (v.wide() - mean[i / run]).powi(2));
        }
        sum(&mut square)?;
        let deviation = square.iter().map(|s| T::of((s / (count - 1.0).max(1.0)).sqrt() + TINY)).collect();
        Ok(Self { mean: mean.into_iter().map(T::of).collect(), deviation })
    }

    /// Of means and deviations.
    pub fn from_parts(mean: Vec<T>, deviation: Vec<T>) -> Self {
        Self { mean, deviation }
    }

    /// Means and deviations.
    pub fn parts(&self) -> [(&'static str, &[T]); 2] {
        [("mean", &self.mean), ("deviation", &self.deviation)]
    }

    fn run(&self, field: &[T]) -> usize {
        (field.len() / self.mean.len()).max(1)
    }

    /// (x − mean)/deviation.
    pub fn encode(&self, field: &mut [T]) {
        let run = self.run(field);
        field.iter_mut().enumerate().for_each(|(i, v)| *v = (*v - self.mean[i / run]) / self.deviation[i / run]);
    }

    /// The way back.
    pub fn decode(&self, field: &mut [T]) {
        let run = self.run(field);
        field.iter_mut().enumerate().for_each(|(i, v)| *v = *v * self.deviation[i / run] + self.mean[i / run]);
    }

    /// Of derivatives by decoded fields, those by encoded ones.
    pub fn scale(&self, field: &mut [T]) {
        let run = self.run(field);
        field.iter_mut().enumerate().for_each(|(i, v)| *v *= self.deviation[i / run]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_fields_have_mean_zero_and_deviation_one_and_come_back() {
        let fields: Vec<Vec<f64>> = (0..5).map(|s| (0..8).map(|i| f64::from(s * s + 3 * i) + 0.1).collect()).collect();
        for (kind, groups) in [(Normalise::Channels, 2), (Normalise::Points, 8)] {
            let normaliser = Normaliser::of(kind, &fields, 2, None).expect("no exchange");
            let mut encoded = fields.clone();
            encoded.iter_mut().for_each(|f| normaliser.encode(f));
            let run = 8 / groups;
            for group in 0..groups {
                let values: Vec<f64> =
                    encoded.iter().flat_map(|f| f[group * run..(group + 1) * run].to_vec()).collect();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64;
                assert!(mean.abs() < 1e-12 && (variance - 1.0).abs() < 1e-6, "{mean} {variance}");
            }
            encoded.iter_mut().for_each(|f| normaliser.decode(f));
            assert!(encoded.iter().flatten().zip(fields.iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-10));
        }
    }
}
