//! Fields on a grid in space and time, as collections of solutions of differential equations have them.
//!
//! Sources: the format of The Well (R. Ohana et al., 2024, <https://polymathic-ai.org/the_well/data_format>);
//! PDEBench (M. Takamoto et al., 2022), the layout of its one-field files.

use crate::store::{Layout, Writer};
use crate::{DataError, Result};

/// Where the values of a field lie.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// Solutions on this grid, one after the other.
    pub samples: usize,
    /// Axes in space, slowest first: name and coordinates.
    pub axes: Vec<(String, Vec<f64>)>,
    /// Times; one for a field without time.
    pub times: Vec<f64>,
}

impl Grid {
    /// Shape of one field, `[samples, n_times, n_0, …]`.
    pub fn shape(&self) -> Vec<usize> {
        [self.samples, self.times.len()].into_iter().chain(self.axes.iter().map(|(_, at)| at.len())).collect()
    }
}

/// Path of field `name` in a file of The Well.
pub fn well_field(name: &str) -> String {
    format!("/t0_fields/{name}")
}

/// Path of the one field of a PDEBench file.
pub const PDEBENCH_FIELD: &str = "/tensor";

/// Declares a file of The Well: trajectories of the scalar `fields`, to be written as float32 at
/// [`well_field`]. Boundary conditions are not known here; their group is left empty.
///
/// # Errors
/// A name is no name in HDF5, or the disk is full.
pub fn well(file: &mut Writer, name: &str, grid: &Grid, fields: &[&str]) -> Result<()> {
    let no = 0_i64;
    file.attribute("/", "dataset_name", name)?;
    file.attribute("/", "grid_type", "cartesian")?;
    file.attribute("/", "n_spatial_dims", grid.axes.len() as i64)?;
    file.attribute("/", "n_trajectories", grid.samples as i64)?;
    file.attribute("/", "simulation_parameters", Vec::<String>::new())?;
    file.group("/dimensions")?;
    let names: Vec<&str> = grid.axes.iter().map(|(name, _)| name.as_str()).collect();
    file.attribute("/dimensions", "spatial_dims", &names[..])?;
    let time = ("time".to_owned(), grid.times.clone());
    for (name, at) in std::iter::once(&time).chain(&grid.axes) {
        let path = format!("/dimensions/{name}");
        let at: Vec<f32> = at.iter().map(|&v| v as f32).collect();
        file.whole(&path, &[at.len()], &at)?;
        file.attribute(&path, "sample_varying", no)?;
        file.attribute(&path, "time_varying", no)?;
    }
    file.group("/boundary_conditions")?;
    for (group, fields) in
        [("/scalars", &[] as &[&str]), ("/t0_fields", fields), ("/t1_fields", &[]), ("/t2_fields", &[])]
    {
        file.group(group)?;
        file.attribute(group, "field_names", fields)?;
    }
    for field in fields {
        let path = well_field(field);
        file.dataset::<f32>(&path, &grid.shape(), Layout::Contiguous)?;
        file.attribute(&path, "dim_varying", vec![1_i64; grid.axes.len()])?;
        file.attribute(&path, "sample_varying", 1_i64)?;
        file.attribute(&path, "time_varying", i64::from(grid.times.len() > 1))?;
    }
    Ok(())
}

/// Declares a PDEBench file: samples of one field, to be written as float32 at
/// [`PDEBENCH_FIELD`]. The format knows the axes by their place: x, y, z.
///
/// # Errors
/// Other axes, or the disk is full.
pub fn pdebench(file: &mut Writer, grid: &Grid) -> Result<()> {
    let names: Vec<&str> = grid.axes.iter().map(|(name, _)| name.as_str()).collect();
    if names.is_empty() || !["x", "y", "z"].starts_with(&names) {
        let detail = format!(
            "PDEBench knows axes by their place, x, then y, then z; this field has {}: export it to another format",
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        );
        return Err(DataError::InvalidValue { path: file.path().to_path_buf(), detail });
    }
    let time = ("t".to_owned(), grid.times.clone());
    for (name, at) in std::iter::once(&time).chain(&grid.axes) {
        let at: Vec<f32> = at.iter().map(|&v| v as f32).collect();
        file.whole(&format!("/{name}-coordinate"), &[at.len()], &at)?;
    }
    file.dataset::<f32>(PDEBENCH_FIELD, &grid.shape(), Layout::Contiguous)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Attribute, Reader};

    fn grid(names: &[&str]) -> Grid {
        Grid {
            samples: 1,
            axes: names.iter().enumerate().map(|(k, n)| ((*n).to_owned(), vec![0.0; k + 2])).collect(),
            times: vec![0.0, 0.5],
        }
    }

    #[test]
    fn the_well_has_one_trajectory_of_scalar_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.hdf5");
        let mut file = Writer::create(&path).unwrap();
        well(&mut file, "heat", &grid(&["x", "y"]), &["u"]).unwrap();
        file.write(&well_field("u"), &[0, 0, 0, 0], &[1, 2, 2, 3], &[1.0_f32; 12]).unwrap();
        file.commit_new().unwrap();
        let file = Reader::open(&path).unwrap();
        assert_eq!(file.shape("/t0_fields/u").unwrap(), [1, 2, 2, 3]);
        assert_eq!(
            file.attribute("/dimensions", "spatial_dims").unwrap(),
            Some(Attribute::Texts(vec!["x".into(), "y".into()]))
        );
        assert_eq!(file.u64_attribute("/", "n_spatial_dims").unwrap(), 2);
        assert_eq!(file.read::<f32>("/dimensions/time").unwrap(), [0.0, 0.5]);
    }

    #[test]
    fn pdebench_takes_its_own_axes_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.h5");
        for (names, good) in
            [(&["x"][..], true), (&["x", "y"], true), (&["y", "x"], false), (&["z"], false), (&[], false)]
        {
            let mut file = Writer::create(&path).unwrap();
            assert_eq!(pdebench(&mut file, &grid(names)).is_ok(), good, "{names:?}");
        }
    }
}
