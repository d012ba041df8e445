//! The one infinite stream of candidates: number t is a function of (seed, replica, part, t).

use convoke_kernels::Philox;

/// Stream of the replicas' seeds.
const REPLICAS: u64 = 0x6470_7020_7265_706c; // "dpp repl"
/// Blocks of 128 bits for each candidate: its choices, and the coordinates of at most 64 axes.
const STRIDE: u64 = 64;

/// Random numbers of one part of a replica's design.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stream(Philox);

impl Stream {
    /// The stream of `part` of `replica` in the run of `seed`.
    pub fn new(seed: u64, replica: u64, part: u64) -> Self {
        let [a, b, ..] = Philox::new(seed, REPLICAS).bits(replica);
        Self(Philox::new(u64::from(a) << 32 | u64::from(b), part))
    }

    /// Uniform numbers of candidate `t`: whether to accept it, and which mixture component it is from.
    pub fn choices(&self, t: u64) -> (f64, f64) {
        let [accept, component] = self.0.uniforms(t * STRIDE);
        (accept, component)
    }

    /// Uniform numbers of coordinates `2 pair` and `2 pair + 1` of candidate `t`.
    pub fn coordinates(&self, t: u64, pair: usize) -> [f64; 2] {
        self.0.uniforms(t * STRIDE + 1 + pair as u64)
    }

    /// A uniform number of candidate `t` beside all of these.
    pub fn coin(&self, t: u64) -> f64 {
        self.0.uniforms(t * STRIDE + STRIDE - 1)[0]
    }

    /// Standard normal number `i`, for streams that hold nothing else.
    pub fn normal(&self, i: u64) -> f64 {
        self.0.normal(i)
    }
}
