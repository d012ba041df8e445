//! Two-dimensional flow of an incompressible fluid on a periodic square, as vorticity.
//!
//! w_t + u·∇w = ν Δw − μ w + f, with Δψ = −w, u = ψ_y, v = −ψ_x. In the form of Basdevant (J. Comput. Phys. 50, 1983)
//! u·∇w = (∂_xx − ∂_yy)(uv) + ∂_xy(v² − u²), and with z = u + iv both products are in z² = u² − v² + 2iuv: an evaluation takes
//! one complex transform each way.

use std::ops::Range;

use convoke_cluster::Comm;
use convoke_kernels::vorticity::Stage;
use num_complex::Complex64;
use serde::{Deserialize, Serialize};

use super::modes::Modes;
use super::slabs::Slabs;
use super::transform::{Through, Transform, Work};

/// Schemes in time; diffusion and drag by Crank and Nicolson in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// Five stages of Carpenter and Kennedy: fourth order without viscosity, second with a tiny constant else.
    #[default]
    Rk4Cn,
    /// Three stages of Williamson.
    Rk3Cn,
    /// Heun.
    Rk2Cn,
    /// Explicit Euler, first order: for comparison with published data.
    ImexCn,
}

impl Scheme {
    /// Evaluations of the equation in a step.
    pub fn stages(self) -> usize {
        match self {
            Self::Rk4Cn => 5,
            Self::Rk3Cn => 3,
            Self::Rk2Cn => 2,
            Self::ImexCn => 1,
        }
    }

    /// The same scheme with two registers, to rounding, for steps of this length.
    pub fn two_registers(self, step: f64) -> Vec<Stage> {
        let half = 0.5 * step;
        let euler = Stage { beta: 0.0, gamma: step, ahead: half, behind: half };
        let scheme = match self {
            Self::Rk4Cn => CARPENTER_KENNEDY,
            Self::Rk3Cn => WILLIAMSON,
            // (1 − bL) of the first result gives back what both stages begin with, and half of what its slope added.
            Self::Rk2Cn => return vec![euler, Stage { beta: -1.0, gamma: half, ahead: -half, behind: half }],
            Self::ImexCn => return vec![euler],
        };
        let stage = |i: usize| {
            let mu = half * (scheme.alpha[i + 1] - scheme.alpha[i]);
            Stage { beta: scheme.beta[i], gamma: step * scheme.gamma[i], ahead: mu, behind: mu }
        };
        (0..self.stages()).map(stage).collect()
    }
}

/// A scheme with few registers: for each stage, h ← N(w) + βh and w ← (w + γΔt h + μLw)/(1 − μL), μ = Δt(α₊ − α)/2.
struct LowStorage {
    alpha: &'static [f64],
    beta: &'static [f64],
    gamma: &'static [f64],
}

/// M. H. Carpenter and C. A. Kennedy, NASA TM 109112, 1994, (5, 4).
const CARPENTER_KENNEDY: LowStorage = LowStorage {
    alpha: &[0.0, 0.1496590219993, 0.3704009573644, 0.6222557631345, 0.9582821306748, 1.0],
    beta: &[0.0, -0.4178904745, -1.192151694643, -1.697784692471, -1.514183444257],
    gamma: &[0.1496590219993, 0.3792103129999, 0.8229550293869, 0.6994504559488, 0.1530572479681],
};
/// J. H. Williamson, J. Comput. Phys. 35, 1980.
const WILLIAMSON: LowStorage = LowStorage {
    alpha: &[0.0, 1.0 / 3.0, 3.0 / 4.0, 1.0],
    beta: &[0.0, -5.0 / 9.0, -153.0 / 128.0],
    gamma: &[1.0 / 3.0, 15.0 / 16.0, 8.0 / 15.0],
};

/// The equation on one grid, on one rank or over several.
#[derive(Debug, Clone)]
pub struct Flow<T = Transform> {
    /// Kept modes.
    pub modes: Modes,
    pub(super) transform: T,
    /// Which of them are here: the k_y of some rows.
    here: Range<usize>,
    pub(super) scheme: Scheme,
    /// Length of a step.
    step: f64,
    /// κ_x and κ_y of each mode that is here, and so below.
    pub(super) kappa: Vec<[f64; 2]>,
    /// 1/|κ|²; 0 for the mean.
    pub(super) inverse: Vec<f64>,
    /// −ν|κ|² − μ.
    linear: Vec<f64>,
    /// Coefficients of f; empty for none.
    pub(super) forcing: Vec<Complex64>,
}

/// Memory of one function that moves on.
#[derive(Debug, Clone)]
pub struct Mover<W = Work> {
    work: W,
    slope: Vec<Complex64>,
    other: Vec<Complex64>,
    known: Vec<Complex64>,
}

impl Mover {
    /// Memory for transforms alone.
    pub fn work(&mut self) -> &mut Work {
        &mut self.work
    }
}

impl Flow {
    /// Viscosity ν and drag μ; `forcing` has a coefficient for each mode, or none at all; `wide`: all threads for one function.
    pub fn new(
        modes: Modes,
        constants: (f64, f64),
        forcing: Vec<Complex64>,
        (scheme, step): (Scheme, f64),
        wide: bool,
    ) -> Self {
        let transform = Transform::new(&modes, wide);
        Self::with(modes, constants, forcing, (scheme, step), transform)
    }

    /// The same with other steps.
    #[must_use]
    pub fn with_step(&self, scheme: Scheme, step: f64) -> Self {
        Self { scheme, step, ..self.clone() }
    }

    /// Bytes of one [`Mover`].
    pub fn mover_bytes(modes: &Modes, wide: bool) -> u64 {
        Work::bytes(modes, wide) + 48 * modes.len() as u64
    }

    /// Bytes of what all samples share, with their first values.
    pub fn table_bytes(modes: &Modes) -> u64 {
        64 * modes.len() as u64
    }

    /// FFT-dominated operations of a step, 5 n log₂ n for each complex FFT of n values.
    pub fn flops(modes: &Modes, scheme: Scheme) -> f64 {
        let (n, lines) = (modes.n as f64, (modes.n + modes.width()) as f64);
        scheme.stages() as f64 * 2.0 * lines * 5.0 * n * n.log2()
    }

    /// The vorticity `w` after `steps` steps.
    pub fn advance(&self, w: &mut [Complex64], steps: u64, mover: &mut Mover) {
        let Ok(()) = self.go_on(w, steps, mover);
    }

    /// w_t = f − u·∇w + ν Δw − μ w.
    pub fn tendency(&self, w: &[Complex64], out: &mut [Complex64], mover: &mut Mover) {
        let Ok(()) = self.explicit(w, out, &mut mover.work);
        out.iter_mut().zip(w).zip(&self.linear).for_each(|((out, w), l)| *out += w * l);
    }

    /// Largest |u| at the points.
    pub fn speed(&self, w: &[Complex64], mover: &mut Mover) -> f64 {
        let mut largest: f64 = 0.0;
        self.transform.visit(
            &mut mover.work,
            |ky, row, mirror| self.velocity(ky, w, row, mirror),
            |_, line| largest = line.iter().map(Complex64::norm_sqr).fold(largest, f64::max),
        );
        largest.sqrt()
    }
}

impl Flow<Slabs> {
    /// Over the ranks of `comm`, each with the modes of a block of k_y.
    pub fn shared(
        modes: Modes,
        constants: (f64, f64),
        forcing: Vec<Complex64>,
        (scheme, step): (Scheme, f64),
        comm: &Comm,
    ) -> Self {
        let transform = Slabs::new(&modes, comm);
        Self::with(modes, constants, forcing, (scheme, step), transform)
    }

    /// The ranks.
    pub fn comm(&self) -> &Comm {
        self.transform.comm()
    }
}

impl<T: Through> Flow<T> {
    fn with(
        modes: Modes,
        (viscosity, drag): (f64, f64),
        mut forcing: Vec<Complex64>,
        (scheme, step): (Scheme, f64),
        transform: T,
    ) -> Self {
        let (rows, width) = (transform.rows(), modes.width());
        let here = rows.start * width..rows.end * width;
        let (start, len) = (here.start, here.len());
        let squares = || modes.squares().skip(start).take(len);
        let kappa = modes.each().skip(start).take(len).map(|(kx, ky)| [modes.kappa(kx), modes.kappa(ky)]).collect();
        let inverse = squares().map(|s| if s > 0.0 { 1.0 / s } else { 0.0 }).collect();
        let linear = squares().map(|s| -viscosity * s - drag).collect();
        if !forcing.is_empty() {
            forcing = forcing[here.clone()].to_vec();
        }
        Self { modes, transform, here, scheme, step, kappa, inverse, linear, forcing }
    }

    /// Which coefficients are here.
    pub fn here(&self) -> Range<usize> {
        self.here.clone()
    }

    /// Memory for [`Flow::go_on`].
    pub fn mover(&self) -> Mover<T::Work> {
        let zero = vec![Complex64::ZERO; self.here.len()];
        Mover { work: self.transform.work(), slope: zero.clone(), other: zero.clone(), known: zero }
    }

    /// The vorticity `w`, the part that is here, after `steps` steps. Collective where ranks share it.
    ///
    /// # Errors
    /// As the exchange.
    pub fn go_on(&self, w: &mut [Complex64], steps: u64, mover: &mut Mover<T::Work>) -> Result<(), T::Error> {
        for _ in 0..steps {
            match self.scheme {
                Scheme::Rk4Cn => self.low_storage(&CARPENTER_KENNEDY, w, mover)?,
                Scheme::Rk3Cn => self.low_storage(&WILLIAMSON, w, mover)?,
                Scheme::Rk2Cn => self.heun(w, mover)?,
                Scheme::ImexCn => self.euler(w, mover)?,
            }
        }
        Ok(())
    }

    fn low_storage(
        &self,
        scheme: &LowStorage,
        w: &mut [Complex64],
        mover: &mut Mover<T::Work>,
    ) -> Result<(), T::Error> {
        for stage in 0..scheme.gamma.len() {
            self.explicit(w, &mut mover.other, &mut mover.work)?;
            let (beta, gamma) = (scheme.beta[stage], scheme.gamma[stage] * self.step);
            let mu = 0.5 * self.step * (scheme.alpha[stage + 1] - scheme.alpha[stage]);
            for (((w, h), n), l) in w.iter_mut().zip(&mut mover.slope).zip(&mover.other).zip(&self.linear) {
                // The first stage has β = 0, whatever the register holds.
                *h = if stage == 0 { *n } else { n + *h * beta };
                *w = (*w * (1.0 + mu * l) + *h * gamma) / (1.0 - mu * l);
            }
        }
        Ok(())
    }

    /// Heun's scheme, the linear part by Crank and Nicolson.
    fn heun(&self, w: &mut [Complex64], mover: &mut Mover<T::Work>) -> Result<(), T::Error> {
        let half = 0.5 * self.step;
        self.explicit(w, &mut mover.slope, &mut mover.work)?;
        for (((w, g), h), l) in w.iter_mut().zip(&mut mover.known).zip(&mover.slope).zip(&self.linear) {
            *g = *w * (1.0 + half * l);
            *w = (*g + h * self.step) / (1.0 - half * l);
        }
        self.explicit(w, &mut mover.other, &mut mover.work)?;
        for ((((w, g), h), n), l) in
            w.iter_mut().zip(&mover.known).zip(&mover.slope).zip(&mover.other).zip(&self.linear)
        {
            *w = (g + (h + n) * half) / (1.0 - half * l);
        }
        Ok(())
    }

    /// The scheme of the first neural-operator data: explicit Euler, the linear part by Crank and Nicolson.
    fn euler(&self, w: &mut [Complex64], mover: &mut Mover<T::Work>) -> Result<(), T::Error> {
        self.explicit(w, &mut mover.slope, &mut mover.work)?;
        let half = 0.5 * self.step;
        for ((w, h), l) in w.iter_mut().zip(&mover.slope).zip(&self.linear) {
            *w = (*w * (1.0 + half * l) + h * self.step) / (1.0 - half * l);
        }
        Ok(())
    }

    /// −ν|κ|² − μ of each mode.
    pub fn linear(&self) -> &[f64] {
        &self.linear
    }

    /// Length of a step.
    pub fn step(&self) -> f64 {
        self.step
    }

    /// f − u·∇w.
    fn explicit(&self, w: &[Complex64], out: &mut [Complex64], work: &mut T::Work) -> Result<(), T::Error> {
        let (n, width) = (self.modes.n, self.modes.width());
        let scale = 1.0 / (n * n) as f64;
        self.transform.through(
            work,
            |ky, row, mirror| self.velocity(ky, w, row, mirror),
            |_, values| {
                for z in values {
                    let square = *z * *z;
                    // uv + i (v² − u²)
                    *z = Complex64::new(0.5 * square.im, -square.re);
                }
            },
            |ky, row, mirror| {
                // The first row is its own mirror image.
                let mirror = if ky == 0 { row } else { mirror };
                let here = ky * width - self.here.start..(ky + 1) * width - self.here.start;
                for ((column, out), [x, y]) in out[here.clone()].iter_mut().enumerate().zip(&self.kappa[here]) {
                    let (at, back) = self.modes.places(column);
                    let (p, q) = (row[at], mirror[back].conj());
                    let (a, b) = ((p + q) * 0.5, (p - q) * Complex64::new(0.0, -0.5));
                    *out = (a * (x * x - y * y) + b * (x * y)) * scale;
                }
            },
        )?;
        for (out, f) in out.iter_mut().zip(&self.forcing) {
            *out += f;
        }
        Ok(())
    }

    /// The coefficients of u + iv.
    fn velocity(&self, ky: usize, w: &[Complex64], row: &mut [Complex64], mirror: &mut [Complex64]) {
        let width = self.modes.width();
        for column in 0..width {
            let (at, back) = self.modes.places(column);
            let i = ky * width + column - self.here.start;
            let [x, y] = self.kappa[i];
            let psi = w[i] * self.inverse[i];
            // û = iκ_y ψ̂ and v̂ = −iκ_x ψ̂; both are of real functions, so that their mirror images are conjugate.
            row[at] = Complex64::new(x, y) * psi;
            if ky > 0 {
                mirror[back] = (Complex64::new(-x, y) * psi).conj();
            }
        }
    }
}
