//! What is written of all samples.

use convoke_cluster::results::{Axis, Meaning};
use convoke_cluster::{Ctx, Region, Result, Results};

use super::{FRONT, PdeData};

fn axis(name: &str, origin: f64, spacing: f64) -> Axis {
    Axis { name: name.to_owned(), unit: "1".to_owned(), origin, spacing }
}

impl PdeData {
    pub(super) fn write(&self, ctx: &Ctx, out: &mut Results) -> Result<()> {
        let (samples, snapshots, points) = (self.spec.samples, self.spec.time.snapshots, self.spec.points());
        let (sample, time) = (axis("sample", 0.0, 1.0), axis("t", self.spec.time.start, self.spec.time.every));
        let pitch = self.modes().length / points as f64;
        let axes = vec![sample.clone(), time.clone(), axis("x", 0.0, pitch), axis("y", 0.0, pitch)];
        let meaning = |long_name: &str, axes: &[Axis]| Meaning {
            long_name: long_name.to_owned(),
            unit: "1".to_owned(),
            axes: axes.to_vec(),
        };
        let shape = [samples, snapshots, points, points];
        out.from_pieces("vorticity", &shape, &ctx.pieces, &meaning("vorticity", &axes))?;
        let root = out.is_root();
        for (figure, (name, long_name)) in [
            ("energy", "mean of |u|²/2"),
            ("enstrophy", "mean of w²/2"),
            ("speed", "largest |u| at the points of the grid"),
        ]
        .into_iter()
        .enumerate()
        {
            let values: Vec<f64> = self.figures.iter().skip(figure).step_by(FRONT).copied().collect();
            let shape = [samples, snapshots];
            let meaning = meaning(long_name, &[sample.clone(), time.clone()]);
            out.array(name, &shape, (Region::whole(&shape), root), &values, &meaning)?;
        }
        let shape = [snapshots, self.modes().m + 1];
        let spectrum: Vec<f64> = self.shells.iter().map(|sum| sum / samples as f64).collect();
        let meaning =
            meaning("energy in the shell |k| - 1/2 ... |k| + 1/2, mean over the samples", &[time, axis("k", 0.0, 1.0)]);
        out.array("energy_spectrum", &shape, (Region::whole(&shape), root), &spectrum, &meaning)?;
        out.figure("modes", self.modes().m as f64)
    }
}
