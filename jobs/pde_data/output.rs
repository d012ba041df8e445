//! What is written of all samples.

use convoke_cluster::results::{Axis, Meaning};
use convoke_cluster::{Ctx, Region, Result, Results};

use super::PdeData;

fn axis(name: &str, origin: f64, spacing: f64) -> Axis {
    Axis { name: name.to_owned(), unit: "1".to_owned(), origin, spacing }
}

fn meaning(long_name: &str, axes: &[&[Axis]]) -> Meaning {
    Meaning { long_name: long_name.to_owned(), unit: "1".to_owned(), axes: axes.concat() }
}

impl PdeData {
    pub(super) fn write(&self, ctx: &Ctx, out: &mut Results) -> Result<()> {
        let (layout, samples) = (&self.layout, self.spec.samples);
        let (sample, space) = ([axis("sample", 0.0, 1.0)], ["x", "y"].map(|name| axis(name, 0.0, layout.pitch)));
        // Without time there is one snapshot, and no axis of them.
        let time = self.spec.time.as_ref();
        let (snapshots, times) = (time.map(|t| t.snapshots), time.map(|t| axis("t", t.start, t.every)));
        let shape = layout.shape(samples, snapshots);
        for (name, long_name) in layout.arrays {
            let meaning = meaning(long_name, &[&sample, times.as_slice(), &space[..layout.axes]]);
            out.from_pieces(name, &shape, &ctx.pieces, &meaning)?;
        }
        let (root, front) = (out.is_root(), layout.front.len());
        for (figure, (name, long_name)) in layout.front.iter().enumerate() {
            let values: Vec<f64> = self.figures.iter().skip(figure).step_by(front).copied().collect();
            let shape: Vec<usize> = [samples].into_iter().chain(snapshots).collect();
            let meaning = meaning(long_name, &[&sample, times.as_slice()]);
            out.array(name, &shape, (Region::whole(&shape), root), &values, &meaning)?;
        }
        if layout.shells > 0 {
            let shape = [self.clock.snapshots, layout.shells];
            let spectrum: Vec<f64> = self.shells.iter().map(|sum| sum / samples as f64).collect();
            let long_name = "energy in the shell |k| - 1/2 ... |k| + 1/2, mean over the samples";
            let meaning = meaning(long_name, &[times.as_slice(), &[axis("k", 0.0, 1.0)]]);
            out.array("energy_spectrum", &shape, (Region::whole(&shape), root), &spectrum, &meaning)?;
        }
        self.system.modes().map_or(Ok(()), |modes| out.figure("modes", modes as f64))
    }
}
