//! Names, shapes and first values of parameters, which lie one after another in one list.

use std::ops::Range;

use convoke_kernels::Philox;

use super::real::Real;

/// A named part of the parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Name, as `layers.2.spectral`.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Where it starts.
    pub start: usize,
    /// First values are uniform between these.
    pub first: [f64; 2],
}

impl Part {
    /// Its place among all parameters.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.shape.iter().product::<usize>()
    }
}

/// All parts in their order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parts(Vec<Part>);

impl Parts {
    /// One more, behind the others.
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize], first: [f64; 2]) {
        let start = self.count();
        self.0.push(Part { name: name.into(), shape: shape.to_vec(), start, first });
    }

    /// `NAME.weight` `[to, from]` and `NAME.bias` `[to]`, uniform on ±1/√from.
    pub fn add_mix(&mut self, name: &str, to: usize, from: usize) {
        let most = 1.0 / (from as f64).sqrt();
        self.add(format!("{name}.weight"), &[to, from], [-most, most]);
        self.add(format!("{name}.bias"), &[to], [-most, most]);
    }

    /// One by one.
    pub fn each(&self) -> std::slice::Iter<'_, Part> {
        self.0.iter()
    }

    /// Number of real parameters.
    pub fn count(&self) -> usize {
        self.0.last().map_or(0, |part| part.range().end)
    }

    fn index(&self, name: &str) -> usize {
        let index = self.0.iter().position(|part| part.name == name);
        index.unwrap_or_else(|| panic!("no parameters {name}"))
    }

    /// Where the parameters of a name lie.
    pub fn range(&self, name: &str) -> Range<usize> {
        self.0[self.index(name)].range()
    }

    /// The parameters of a name.
    pub fn of<'p, T>(&self, parameters: &'p [T], name: &str) -> &'p [T] {
        &parameters[self.range(name)]
    }

    /// Weight and bias of a name.
    pub fn mix<'p, T>(&self, parameters: &'p [T], name: &str) -> [&'p [T]; 2] {
        ["weight", "bias"].map(|part| self.of(parameters, &format!("{name}.{part}")))
    }

    /// The same, to be changed.
    pub fn mix_mut<'p, T>(&self, parameters: &'p mut [T], name: &str) -> (&'p mut [T], &'p mut [T]) {
        let index = self.index(&format!("{name}.weight"));
        let (first, second) = (self.0[index].range(), self.0[index + 1].range());
        parameters[first.start..second.end].split_at_mut(first.len())
    }

    /// First values, functions of (seed, parameter).
    pub fn initial<T: Real>(&self, seed: u64) -> Vec<T> {
        let random = Philox::new(seed, 0x6e6f_2077_6569_6768); // "no weigh"
        let values = self.0.iter().flat_map(|part| {
            let [low, high] = part.first;
            part.range().map(move |i| T::of(low + (high - low) * random.uniform(i as u64)))
        });
        values.collect()
    }
}
