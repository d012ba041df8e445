//! A tensor grid on a device, with what programs read of it again and again.

use std::sync::Arc;

use convoke_cluster::Result;
use convoke_kernels::pointwise::Input;
use convoke_kernels::{Buffer, Device};

use super::arrays::GridFunction;
use super::equation::Coordinates;

/// Points with their coordinates on the device; arrays are interpolated once.
#[derive(Debug)]
pub struct Grid {
    /// Coordinates along each axis, in the problem's own units.
    pub coordinates: Coordinates,
    axes: Vec<Buffer<f64>>,
    arrays: Vec<(Arc<GridFunction>, Buffer<f64>)>,
}

impl Grid {
    /// The grid of these coordinates.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(device: &Device, coordinates: Coordinates) -> Result<Self> {
        let axis = |x: &Vec<f64>| Buffer::from_vec(device, x.clone());
        let axes = coordinates.iter().map(axis).collect::<std::result::Result<_, _>>()?;
        Ok(Self { coordinates, axes, arrays: Vec::new() })
    }

    /// Number of points.
    pub fn n_points(&self) -> usize {
        self.coordinates.iter().map(Vec::len).product()
    }

    /// Inputs of a program: the coordinates, and the values of `arrays`.
    ///
    /// # Errors
    /// Where an array cannot be interpolated, or the device has no room.
    pub fn inputs(
        &mut self,
        device: &Device,
        arrays: &[Arc<GridFunction>],
    ) -> Result<(Vec<Input<'_>>, Vec<Input<'_>>)> {
        for array in arrays {
            if !self.arrays.iter().any(|(have, _)| Arc::ptr_eq(have, array)) {
                let values = Buffer::from_vec(device, array.on(&self.coordinates)?)?;
                self.arrays.push((array.clone(), values));
            }
        }
        let mut have: Vec<_> = self.arrays.iter_mut().map(Some).collect();
        let mut of_array = |array: &Arc<GridFunction>| {
            let position = have.iter().position(|h| h.as_ref().is_some_and(|(have, _)| Arc::ptr_eq(have, array)));
            let (_, values) = position.and_then(|p| have[p].take()).expect("made above, and read once by a program");
            Input::Field(values)
        };
        let fields = arrays.iter().map(&mut of_array).collect();
        let coordinates = &self.coordinates;
        let axis = |(axis, values)| {
            let stride = coordinates[axis + 1..].iter().map(Vec::len).product();
            Input::Axis { values, stride }
        };
        Ok((self.axes.iter_mut().enumerate().map(axis).collect(), fields))
    }
}
