//! Which instruction set the kernels use.

/// An instruction set that kernels are compiled for. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// None beyond the language.
    Plain,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, beside the former.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The fastest that this machine has.
    pub fn best() -> Level {
        Level::present().last().copied().unwrap_or(Level::Plain)
    }

    /// All that this machine has, the slowest first.
    pub fn present() -> &'static [Level] {
        #[cfg(target_arch = "x86_64")]
        {
            let all: &[Level] = &[Level::Plain, Level::Avx2, Level::Avx512];
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let n = if !avx2 {
                1
            } else if !is_x86_feature_detected!("avx512f") {
                2
            } else {
                3
            };
            &all[..n]
        }
        #[cfg(not(target_arch = "x86_64"))]
        &[Level::Plain]
    }
}
