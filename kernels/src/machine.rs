//! What this machine's processor can do: its widest vector instructions, and measured peaks to compare speeds with.

use std::sync::OnceLock;

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
