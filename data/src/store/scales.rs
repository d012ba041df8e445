//! HDF5 dimension scales, written by hand: the coordinates of the axes of a dataset.
//!
//! Source: HDF5 Dimension Scale Specification 1.0; netCDF-4 and xarray read them.

use std::collections::BTreeMap;

use hdf5::types::{FixedAscii, VarLenArray};
use hdf5::{File, ObjectReference, ObjectReference1};

use super::attribute::{self, Attribute};
use crate::schema::scale::{CLASS, CLASS_VALUE, DIMENSION_LIST, NAME, REFERENCE_LIST};

/// Which scale belongs to which axis of which dataset.
#[derive(Debug, Default)]
pub(super) struct Scales {
    /// Dataset -> per axis its scale.
    axes: BTreeMap<String, Vec<Option<String>>>,
    /// Scale -> name of the axis.
    names: BTreeMap<String, String>,
}

/// One entry of a scale's back references.
#[derive(Clone, Copy, hdf5::H5Type)]
#[repr(C)]
struct BackReference {
    dataset: ObjectReference1,
    dimension: i32,
}

impl Scales {
    pub(super) fn attach(&mut self, dataset: String, rank: usize, axis: usize, scale: String, name: &str) {
        self.axes.entry(dataset).or_insert_with(|| vec![None; rank])[axis] = Some(scale.clone());
        self.names.insert(scale, name.to_owned());
    }

    /// Writes the attributes of all scales and of the datasets that use them.
    pub(super) fn write(&self, file: &File) -> hdf5::Result<()> {
        let mut back: BTreeMap<&String, Vec<BackReference>> = BTreeMap::new();
        for (name, axes) in &self.axes {
            let mut list = Vec::with_capacity(axes.len());
            for (axis, scale) in axes.iter().enumerate() {
                let Some(scale) = scale else {
                    list.push(VarLenArray::from_slice(&[]));
                    continue;
                };
                list.push(VarLenArray::from_slice(&[ObjectReference1::create(file, scale)?]));
                let dataset = ObjectReference1::create(file, name)?;
                back.entry(scale).or_default().push(BackReference { dataset, dimension: axis as i32 });
            }
            let dataset = file.dataset(name)?;
            dataset
                .new_attr::<VarLenArray<ObjectReference1>>()
                .shape(list.len())
                .create(DIMENSION_LIST)?
                .write_raw(&list)?;
        }
        for (scale, name) in &self.names {
            let dataset = file.dataset(scale)?;
            // The specification asks for terminated text: one byte more than the letters.
            let class = FixedAscii::<16>::from_ascii(CLASS_VALUE).map_err(|error| error.to_string())?;
            dataset.new_attr::<FixedAscii<16>>().create(CLASS)?.write_scalar(&class)?;
            attribute::write(&dataset, NAME, &Attribute::Ascii(format!("{name}\0")))?;
            let list = &back[scale];
            dataset.new_attr::<BackReference>().shape(list.len()).create(REFERENCE_LIST)?.write_raw(list)?;
        }
        Ok(())
    }
}
