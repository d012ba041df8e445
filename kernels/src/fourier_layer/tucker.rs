//! Matrices of modes as a Tucker product: W_{i o k₁ …} = Σ core_{a b c₁ …} U⁰_{i a} U¹_{o b} U²_{k₁ c₁} …, all complex, the axes those of the
//! channels that come and go and of the modes of each axis.
//!
//! The core is multiplied with one factor after the other; what each product started from is kept for the derivative, whose products go
//! the way back. With r of n entries left on an axis, an axis costs 8 r flops for each number that its product makes: little beside the products with
//! a batch of coefficients.

use super::{Array, Scratch, at_least_one, below_2_31, cuda, expect, narrow, reference, wide, within};
use crate::{Buffer, Device, Result};

/// A Tucker product's sizes and places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Factors {
    /// Extent of each axis of the tensor: channels that come, channels that go, modes of each axis.
    pub extents: Vec<usize>,
    /// Extent of each axis of the core.
    pub ranks: Vec<usize>,
    /// Where the core starts among the parameters, `[ranks, re | im]`.
    pub core: usize,
    /// Where the factor of each axis starts, `[extent, rank, re | im]`.
    pub factors: Vec<usize>,
}

/// An axis of a tensor in a product with a factor `[to, from]`: `[outer, from, inner]` becomes `[outer, to, inner]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Along {
    pub outer: usize,
    pub to: usize,
    pub from: usize,
    pub inner: usize,
}

/// A Tucker product with the memory of its passes.
#[derive(Debug)]
pub struct Tucker {
    device: Device,
    places: Factors,
    /// The core times the first factor, times the first two, …, times all.
    products: Vec<Array>,
}

impl Along {
    fn sizes(&self) -> [usize; 4] {
        [self.outer, self.to, self.from, self.inner]
    }

    /// Numbers of `[outer, n, inner]` pairs.
    fn numbers(&self, n: usize) -> usize {
        2 * self.outer * n * self.inner
    }
}

impl Factors {
    fn along(&self, axis: usize) -> Along {
        Along {
            outer: self.extents[..axis].iter().product(),
            to: self.extents[axis],
            from: self.ranks[axis],
            inner: self.ranks[axis + 1..].iter().product(),
        }
    }

    fn axes(&self) -> impl DoubleEndedIterator<Item = (usize, Along)> {
        (0..self.extents.len()).map(|axis| (axis, self.along(axis)))
    }

    /// Pairs of channels, and modes.
    fn pairs(&self) -> (usize, usize) {
        (self.extents[..2].iter().product(), self.extents[2..].iter().product())
    }

    fn check(&self, parameters: usize) -> Result<()> {
        within("core", self.core + 2 * self.ranks.iter().product::<usize>(), parameters)?;
        for (axis, along) in self.axes() {
            within("factor", self.factors[axis] + 2 * along.to * along.from, parameters)?;
        }
        Ok(())
    }
}

impl Tucker {
    /// With memory on a device.
    ///
    /// # Errors
    /// For numbers of axes that disagree, empty ones, or a device without room.
    pub fn new(device: &Device, places: Factors) -> Result<Self> {
        let axes = places.extents.len();
        expect("ranks, one for each axis,", places.ranks.len(), axes)?;
        expect("factors, one for each axis,", places.factors.len(), axes)?;
        at_least_one("modes of an axis", axes.saturating_sub(2))?;
        for (extent, rank) in places.extents.iter().zip(&places.ranks) {
            at_least_one("extents and ranks", *extent.min(rank))?;
        }
        let product = |(_, along): (usize, Along)| {
            below_2_31("numbers of a tensor", along.numbers(along.to).max(along.numbers(along.from)))?;
            Buffer::zeros(device, along.numbers(along.to))
        };
        Ok(Self { products: places.axes().map(product).collect::<Result<_>>()?, device: device.clone(), places })
    }

    /// Numbers of all matrices.
    pub fn size(&self) -> usize {
        2 * self.places.extents.iter().product::<usize>()
    }

    /// The matrices `[mode, re | im, from, to]`, all of `out`.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn matrices(&mut self, parameters: &mut Array, out: &mut Array) -> Result<()> {
        self.places.check(parameters.len())?;
        expect("matrices [modes, 2, from, to]", out.len(), self.size())?;
        for (axis, along) in self.places.axes() {
            let (before, from_here) = self.products.split_at_mut(axis);
            let y = &mut from_here[0];
            let u = self.places.factors[axis];
            if let Device::Gpu(gpu) = &self.device {
                let all = parameters.device_in(gpu)?;
                let x = before.last_mut().map_or(Ok(at(all, self.places.core)), |x| x.device_in(gpu))?;
                cuda::factor(gpu, along, false, at(all, u), [x, y.device_out(gpu)?])?;
            } else {
                let x = before.last_mut().map_or_else(|| core(&self.places, parameters), |x| wide(x.host()));
                let u = factor(parameters, u, along);
                narrow(&reference::times_factor(along.sizes(), &u, &x, false), y.host_out());
            }
        }
        let tensor = self.products.last_mut().expect("a product has axes");
        if let Device::Gpu(gpu) = &self.device {
            return cuda::arrange(gpu, self.places.pairs(), false, [tensor.device_in(gpu)?, out.device_out(gpu)?]);
        }
        out.host_out().copy_from_slice(&reference::matrices(self.places.pairs(), tensor.host()));
        Ok(())
    }

    /// The derivatives by core and factors, written to their places in `gradient`, for those `dw` by the matrices that were made last; they
    /// have to be made again before the next.
    ///
    /// # Errors
    /// Where the lengths disagree, or the device fails.
    pub fn gradient(
        &mut self,
        parameters: &mut Array,
        dw: &mut Array,
        (gradient, scratch): (&mut Array, &mut Scratch),
    ) -> Result<()> {
        self.places.check(parameters.len().min(gradient.len()))?;
        expect("matrices [modes, 2, from, to]", dw.len(), self.size())?;
        let tensor = self.products.last_mut().expect("a product has axes");
        match &self.device {
            Device::Gpu(gpu) => {
                cuda::arrange(gpu, self.places.pairs(), true, [dw.device_in(gpu)?, tensor.device_out(gpu)?])?;
            }
            Device::Cpu => tensor.host_out().copy_from_slice(&reference::tensor(self.places.pairs(), dw.host())),
        }
        // A product's derivatives take its place once the derivatives by its factor are known.
        for (axis, along) in self.places.axes().rev() {
            let (before, from_here) = self.products.split_at_mut(axis);
            let g = &mut from_here[0];
            let u = self.places.factors[axis];
            if let Device::Gpu(gpu) = &self.device {
                let (all, to) = (parameters.device_in(gpu)?, gradient.device_inout(gpu)?);
                let g = g.device_in(gpu)?;
                let (x, back) = match before.last_mut() {
                    Some(x) => [x.device_inout(gpu)?; 2].into(),
                    None => (at(all, self.places.core), at(to, self.places.core)),
                };
                cuda::factor_gradient(gpu, along, [g, x], (at(to, u), &mut *scratch))?;
                cuda::factor(gpu, along, true, at(all, u), [g, back])?;
            } else {
                let g = wide(g.host());
                let x = before.last_mut().map_or_else(|| core(&self.places, parameters), |x| wide(x.host()));
                let du = reference::factor_gradient(along.sizes(), &g, &x);
                let dx = reference::times_factor(along.sizes(), &factor(parameters, u, along), &g, true);
                narrow(&du, &mut gradient.host_mut()[u..][..du.len()]);
                match before.last_mut() {
                    Some(x) => narrow(&dx, x.host_out()),
                    None => narrow(&dx, &mut gradient.host_mut()[self.places.core..][..dx.len()]),
                }
            }
        }
        Ok(())
    }
}

/// Address of what starts at a place of an array.
fn at(array: u64, start: usize) -> u64 {
    array + 4 * start as u64
}

fn core(places: &Factors, parameters: &mut Array) -> Vec<f64> {
    wide(&parameters.host()[places.core..][..2 * places.ranks.iter().product::<usize>()])
}

fn factor(parameters: &mut Array, start: usize, along: Along) -> Vec<f64> {
    wide(&parameters.host()[start..][..2 * along.to * along.from])
}
