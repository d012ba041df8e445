//! What this machine's processor can do: its widest vector instructions, and measured peaks to compare speeds with.

use rayon::prelude::*;
use std::sync::OnceLock;
use std::time::Instant;

use fma::{flops_per_round, multiply_adds};

/// Vector instructions that the kernels use, chosen once per process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Simd {
    /// What the compiler makes of plain loops.
    Portable,
    /// 8 lanes of f32 with fused multiply-add.
    Avx2,
    /// 16 lanes of f32.
    Avx512,
}

impl Simd {
    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "AVX2",
            Self::Avx512 => "AVX-512",
        }
    }

    /// Every level that this processor has, narrowest first.
    pub fn available() -> &'static [Simd] {
        static LEVELS: OnceLock<Vec<Simd>> = OnceLock::new();
        LEVELS.get_or_init(|| {
            #[allow(unused_mut)]
            let mut levels = vec![Self::Portable];
            #[cfg(target_arch = "x86_64")]
            {
                let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
                if avx2 {
                    levels.push(Self::Avx2);
                }
                let avx512 = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
                if avx2 && avx512 && is_x86_feature_detected!("avx512dq") {
                    levels.push(Self::Avx512);
                }
            }
            levels
        })
    }
}

/// The widest level of this processor.
pub fn simd() -> Simd {
    *Simd::available().last().expect("the portable level is always there")
}

/// Runs `work`, a loop that is marked `#[inline(always)]`, with the widest vectors of this processor: the compiler makes it for
/// each level, and the same bits come of it where no sums of several elements are regrouped.
#[inline(always)]
pub fn widest<R>(work: impl FnOnce() -> R) -> R {
    levels::widest(work)
}

mod levels {
    #![allow(unsafe_code)]
    use super::{Simd, simd};

    #[inline(always)]
    pub(super) fn widest<R>(work: impl FnOnce() -> R) -> R {
        match simd() {
            // SAFETY: `Simd::available` found these instructions.
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512 => unsafe { avx512(work) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2 => unsafe { avx2(work) },
            _ => work(),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
    fn avx512<R>(work: impl FnOnce() -> R) -> R {
        work()
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn avx2<R>(work: impl FnOnce() -> R) -> R {
        work()
    }
}

/// Sustained f32 flops per second on the threads of the current rayon pool: independent chains of multiply-adds in
/// registers, the best of a few runs. A multiply-add counts as two.
pub fn peak_flops() -> f64 {
    const ROUNDS: u64 = 2_000_000;
    let threads = rayon::current_num_threads();
    let per_thread = flops_per_round(simd()) * ROUNDS;
    best_seconds(5, || rayon::broadcast(|_| std::hint::black_box(multiply_adds(ROUNDS)))).recip()
        * (threads as u64 * per_thread) as f64
}

/// Sustained bytes per second of the triad a = b + s c on arrays far larger than the caches, on the threads of the
/// current rayon pool: 12 bytes per element (the read that a write may cause is not counted), the best of a few runs.
pub fn bandwidth() -> f64 {
    const LEN: usize = 1 << 24;
    const CHUNK: usize = 1 << 16;
    let (b, c) = (vec![1.0f32; LEN], vec![2.0f32; LEN]);
    let mut a = vec![0.0f32; LEN];
    let seconds = best_seconds(5, || {
        a.par_chunks_mut(CHUNK).zip(b.par_chunks(CHUNK).zip(c.par_chunks(CHUNK))).for_each(|(a, (b, c))| {
            a.iter_mut().zip(b.iter().zip(c)).for_each(|(a, (b, c))| *a = b + 3.0 * c);
        });
        std::hint::black_box(&mut a);
    });
    (12 * LEN) as f64 / seconds
}

/// Seconds of the fastest of `runs` runs.
pub fn best_seconds<T>(runs: usize, mut work: impl FnMut() -> T) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..runs.max(1) {
        let start = Instant::now();
        std::hint::black_box(work());
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// Chains of multiply-adds for [`peak_flops`].
mod fma {
    #![allow(unsafe_code)]
    use super::{Simd, simd};

    /// Chains in flight: more than latency times issue rate on current cores.
    const CHAINS: usize = 12;

    /// Flops of one round of [`multiply_adds`].
    pub(super) fn flops_per_round(simd: Simd) -> u64 {
        let lanes = match simd {
            Simd::Avx512 => 16,
            Simd::Avx2 | Simd::Portable => 8,
        };
        2 * lanes * CHAINS as u64
    }

    pub(super) fn multiply_adds(rounds: u64) -> f32 {
        match simd() {
            // SAFETY: `simd` found these instructions.
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512 => unsafe { x86::avx512(rounds) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2 => unsafe { x86::avx2(rounds) },
            _ => portable(rounds),
        }
    }

    fn portable(rounds: u64) -> f32 {
        let (a, b) = std::hint::black_box((0.999f32, 0.001f32));
        let mut x = [[1.0f32; 8]; CHAINS];
        for _ in 0..rounds {
            x.iter_mut().flatten().for_each(|x| *x = *x * a + b);
        }
        x.iter().flatten().sum()
    }

    #[cfg(target_arch = "x86_64")]
    mod x86 {
        use super::CHAINS;
        use std::arch::x86_64::*;

        #[target_feature(enable = "avx512f")]
        pub(super) unsafe fn avx512(rounds: u64) -> f32 {
            let (a, b) = std::hint::black_box((_mm512_set1_ps(0.999), _mm512_set1_ps(0.001)));
            let mut x = [_mm512_set1_ps(1.0); CHAINS];
            for _ in 0..rounds {
                for x in &mut x {
                    *x = _mm512_fmadd_ps(*x, a, b);
                }
            }
            x.iter().map(|x| _mm512_reduce_add_ps(*x)).sum()
        }

        #[target_feature(enable = "avx2,fma")]
        pub(super) unsafe fn avx2(rounds: u64) -> f32 {
            let (a, b) = std::hint::black_box((_mm256_set1_ps(0.999), _mm256_set1_ps(0.001)));
            let mut x = [_mm256_set1_ps(1.0); CHAINS];
            for _ in 0..rounds {
                for x in &mut x {
                    *x = _mm256_fmadd_ps(*x, a, b);
                }
            }
            x.iter().map(|x| _mm_cvtss_f32(_mm256_castps256_ps128(*x))).sum()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_peaks_are_plausible() {
        let (flops, bytes) = (peak_flops(), bandwidth());
        assert!(flops > 1e8 && flops < 1e16, "{flops} flop/s");
        assert!(bytes > 1e7 && bytes < 1e14, "{bytes} byte/s");
    }
}
