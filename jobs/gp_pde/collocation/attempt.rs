//! A prior and the solution under it: the part of the state that there is twice, now and at its best.

use convoke_cluster::{Fields, Region};

use crate::gp_pde::features::Prior;

/// A prior and the solution under it.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    /// The fields at the nodes of this rank, one case after the other.
    pub(super) u: Vec<f64>,
    /// Held-out residual: of the worst case.
    pub(super) residual: f64,
    /// Frequencies and standard deviations, by axis.
    pub(super) frequencies: Vec<Vec<f64>>,
    pub(super) scales: Vec<Vec<f64>>,
    /// Number of frequencies, for a load.
    extents: Vec<u64>,
}

impl Attempt {
    pub(super) fn new(len: usize, priors: Vec<Prior>) -> Self {
        let (frequencies, scales, extents) = Default::default();
        let mut attempt = Self { u: vec![0.0; len], residual: f64::MAX, frequencies, scales, extents };
        attempt.set_priors(priors);
        attempt
    }

    pub(super) fn priors(&self) -> Vec<Prior> {
        let parts = self.frequencies.iter().zip(&self.scales);
        parts.map(|(f, s)| Prior { frequencies: f.clone(), scales: s.clone() }).collect()
    }

    pub(super) fn set_priors(&mut self, priors: Vec<Prior>) {
        self.extents = priors.iter().map(|p| p.scales.len() as u64).collect();
        (self.frequencies, self.scales) = priors.into_iter().map(|p| (p.frequencies, p.scales)).unzip();
    }

    pub(super) fn fields<'a>(
        &'a mut self,
        name: &str,
        fields: &mut Fields<'a>,
        (shape, region, root): (&[usize], &Region, bool),
    ) {
        for (axis, n) in self.extents.iter_mut().enumerate() {
            fields.counter(format!("{name}/extent{axis}"), n);
        }
        fields.real(format!("{name}/residual"), &mut self.residual);
        fields.array(format!("{name}/u"), shape, region.clone(), self.u.as_mut_slice());
        let parts = [("frequencies", &mut self.frequencies), ("scales", &mut self.scales)];
        for (part, axes) in parts {
            for (axis, values) in axes.iter_mut().enumerate() {
                let n = [values.len()];
                let array = fields.array(format!("{name}/{part}{axis}"), &n, Region::whole(&n), values.as_mut_slice());
                array.owned = root;
            }
        }
    }

    pub(super) fn reshape(&mut self) {
        for axes in [&mut self.frequencies, &mut self.scales] {
            axes.iter_mut().zip(&self.extents).for_each(|(s, n)| s.resize(*n as usize, 0.0));
        }
    }
}
