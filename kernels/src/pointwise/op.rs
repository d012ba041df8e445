//! The operations of a program and what each does to one number.

/// One step of a [`Program`](super::Program). Operands are positions of earlier steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// The same number at every point.
    Constant(f64),
    /// The input of this number.
    Input(usize),
    /// f(a)
    Unary(Unary, usize),
    /// f(a, b)
    Binary(Binary, usize, usize),
    /// a^n; becomes multiplications.
    PowI(usize, i32),
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Unary {
    /// -x
    Neg,
    /// |x|
    Abs,
    /// -1 for x < 0, 1 for x > 0, otherwise x itself (a zero or NaN).
    Sign,
    /// 0 for x < 0, 1 for x >= 0, NaN for NaN.
    Step,
    /// Square root.
    Sqrt,
    /// Cube root, of negative numbers too.
    Cbrt,
    /// e^x
    Exp,
    /// Natural logarithm.
    Ln,
    /// Sine of x in radians; so the others.
    Sin,
    /// Cosine.
    Cos,
    /// Tangent.
    Tan,
    /// Inverse sine.
    Asin,
    /// Inverse cosine.
    Acos,
    /// Inverse tangent.
    Atan,
    /// Hyperbolic sine.
    Sinh,
    /// Hyperbolic cosine.
    Cosh,
    /// Hyperbolic tangent.
    Tanh,
    /// Error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.
    Erf,
}

/// A function of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Binary {
    /// a + b
    Add,
    /// a - b
    Sub,
    /// a b
    Mul,
    /// a / b
    Div,
    /// a^b
    Pow,
    /// Angle of the point (b, a): atan2(a, b).
    Atan2,
    /// The smaller; of a number and NaN the number.
    Min,
    /// The larger; of a number and NaN the number.
    Max,
}

impl Unary {
    /// Every function, in the order of the device code's opcodes.
    pub const ALL: [Self; 18] = [
        Self::Neg,
        Self::Abs,
        Self::Sign,
        Self::Step,
        Self::Sqrt,
        Self::Cbrt,
        Self::Exp,
        Self::Ln,
        Self::Sin,
        Self::Cos,
        Self::Tan,
        Self::Asin,
        Self::Acos,
        Self::Atan,
        Self::Sinh,
        Self::Cosh,
        Self::Tanh,
        Self::Erf,
    ];

    /// f(x)
    #[inline(always)]
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Self::Neg => -x,
            Self::Abs => x.abs(),
            Self::Sign => {
                let negative = if x < 0.0 { -1.0 } else { x };
                if x > 0.0 { 1.0 } else { negative }
            }
            Self::Step => {
                let other = if x < 0.0 { 0.0 } else { x };
                if x >= 0.0 { 1.0 } else { other }
            }
            Self::Sqrt => x.sqrt(),
            Self::Cbrt => x.cbrt(),
            Self::Exp => x.exp(),
            Self::Ln => x.ln(),
            Self::Sin => x.sin(),
            Self::Cos => x.cos(),
            Self::Tan => x.tan(),
            Self::Asin => x.asin(),
            Self::Acos => x.acos(),
            Self::Atan => x.atan(),
            Self::Sinh => x.sinh(),
            Self::Cosh => x.cosh(),
            Self::Tanh => x.tanh(),
            Self::Erf => libm::erf(x),
        }
    }
}

impl Binary {
    /// Every function, in the order of the device code's opcodes.
    pub const ALL: [Self; 8] =
        [Self::Add, Self::Sub, Self::Mul, Self::Div, Self::Pow, Self::Atan2, Self::Min, Self::Max];

    /// f(a, b)
    #[inline(always)]
    pub fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::Pow => a.powf(b),
            Self::Atan2 => a.atan2(b),
            Self::Min => a.min(b),
            Self::Max => a.max(b),
        }
    }
}

impl Op {
    /// The steps that this one reads.
    pub(super) fn operands(self) -> impl Iterator<Item = usize> {
        let (a, b) = match self {
            Self::Constant(_) | Self::Input(_) => (None, None),
            Self::Unary(_, a) | Self::PowI(a, _) => (Some(a), None),
            Self::Binary(_, a, b) => (Some(a), Some(b)),
        };
        a.into_iter().chain(b)
    }
}
