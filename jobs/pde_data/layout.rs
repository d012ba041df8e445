//! What a sample consists of: numbers that move on, arrays and figures that are kept, and what they cost.

use convoke_cluster::BadValue;

use super::darcy::Darcy;
use super::line::Line;
use super::spec::{Equation, Spec};
use crate::flow::Flow;

/// A name and what it means.
pub type Named = (&'static str, &'static str);

/// Sizes of one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Layout {
    /// Numbers of its state.
    pub numbers: usize,
    /// Arrays of the result, each with values at a snapshot.
    pub arrays: &'static [Named],
    /// Axes in space.
    pub axes: usize,
    /// Points of the result along each.
    pub points: usize,
    /// Distance between them.
    pub pitch: f64,
    /// Numbers of a snapshot that go into the result; the first two are shown while it runs, the last says how fast it is.
    pub front: &'static [Named],
    /// Entries of the energy by wave numbers that follow them; 0 where nothing moves.
    pub shells: usize,
    /// Bytes of what all samples share.
    pub tables: u64,
    /// Bytes that a sample needs while it moves.
    pub mover: u64,
    /// Operations of its beginning.
    pub first: f64,
}

impl Layout {
    /// `wide`: all threads work on one sample.
    ///
    /// # Errors
    /// [`BadValue`] for a length that is none.
    pub fn new(spec: &Spec, wide: bool) -> Result<Self, BadValue> {
        let (n, points, length) = (spec.grid.points, spec.points(), spec.length()?);
        let (axes, pitch, first) = (2, length / points as f64, 0.0);
        if let Some(law) = spec.law() {
            let circle = law.circle(n, length);
            return Ok(Self {
                numbers: 2 * (circle.m + 1),
                arrays: &[("solution", "solution")],
                axes: 1,
                points,
                pitch,
                front: &[
                    ("mean", "mean of u"),
                    ("energy", "mean of u²/2"),
                    ("largest", "largest |u| at the points of the grid"),
                ],
                shells: circle.m + 1,
                tables: Line::table_bytes(&circle),
                mover: Line::mover_bytes(&circle),
                first,
            });
        }
        if spec.equation == Equation::Darcy {
            return Ok(Self {
                // Coefficient, pressure, and the number of iterations.
                numbers: 2 * n * n + 1,
                arrays: &[("coefficient", "coefficient a of the medium"), ("pressure", "pressure")],
                axes,
                points,
                pitch: length / (points - 1) as f64,
                front: &[
                    ("iterations", "iterations that the pressure took"),
                    ("mean", "mean of the pressure at the nodes"),
                    ("largest", "largest pressure at the nodes"),
                ],
                shells: 0,
                tables: Darcy::table_bytes(n),
                mover: Darcy::work_bytes(n),
                first: Darcy::flops(n),
            });
        }
        let modes = spec.modes()?;
        Ok(Self {
            numbers: 2 * modes.len(),
            arrays: &[("vorticity", "vorticity")],
            axes,
            points,
            pitch,
            front: &[
                ("energy", "mean of |u|²/2"),
                ("enstrophy", "mean of w²/2"),
                ("speed", "largest |u| at the points of the grid"),
            ],
            shells: modes.m + 1,
            tables: Flow::table_bytes(&modes),
            mover: Flow::mover_bytes(&modes, wide),
            first,
        })
    }

    /// Values of one array at one snapshot.
    pub fn values(&self) -> usize {
        self.points.pow(self.axes as u32)
    }

    /// Figures of a sample at a snapshot, the energies by wave numbers included.
    pub fn figures(&self) -> usize {
        self.front.len() + self.shells
    }

    /// Shape of an array of `rows` samples with `snapshots`, or of what does not move.
    pub fn shape(&self, rows: usize, snapshots: Option<usize>) -> Vec<usize> {
        let space = std::iter::repeat_n(self.points, self.axes);
        [rows].into_iter().chain(snapshots).chain(space).collect()
    }
}

/// Most points along an axis.
pub fn most_points(equation: Equation) -> usize {
    match equation {
        Equation::NavierStokes | Equation::Darcy => 1 << 14,
        Equation::Burgers | Equation::KuramotoSivashinsky | Equation::Advection => 1 << 20,
    }
}

/// Operations of `steps` steps of a sample.
///
/// # Errors
/// [`BadValue`] for a length that is none.
pub fn flops(spec: &Spec, steps: f64) -> Result<f64, BadValue> {
    if let Some(law) = spec.law() {
        return Ok(law.flops(&law.circle(spec.grid.points, spec.length()?), steps));
    }
    let scheme = spec.time.as_ref().and_then(|time| time.scheme).unwrap_or_default();
    Ok(steps * Flow::flops(&spec.modes()?, scheme))
}
