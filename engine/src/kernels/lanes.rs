//! Numbers side by side: one trait, and a type per instruction set that does the same to each lane.
//!
//! Every operation works lane by lane and rounds once, so an answer does not depend on how many
//! lanes there are: the scalar twin, AVX2 and AVX-512 agree to the bit.

/// Several `f32` side by side.
///
/// # Safety
/// The functions of an implementation may be called only where its instruction set is present, and
/// pointers must be good for [`Singles::WIDTH`] values.
pub(super) trait Singles: Copy {
    /// Number of lanes.
    const WIDTH: usize;
    type Mask: Copy;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// The root and its reciprocal, of what is above zero, to within two epsilons: the one operation
    /// that may differ between instruction sets.
    unsafe fn root(self) -> (Self, Self);
    /// `self + a * b`, rounded once.
    unsafe fn plus(self, a: Self, b: Self) -> Self;
    /// `self - a * b`, rounded once.
    unsafe fn minus(self, a: Self, b: Self) -> Self;
    /// The lesser; the other of what cannot be compared.
    unsafe fn min(self, other: Self) -> Self;
    /// The greater; the other of what cannot be compared.
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn less(self, other: Self) -> Self::Mask;
    /// `a` where the mask is set, `b` elsewhere. No bit of either is changed.
    unsafe fn pick(mask: Self::Mask, a: Self, b: Self) -> Self;
}

/// Eight `f64` side by side, in as many registers as that takes.
///
/// # Safety
/// As of [`Singles`], with pointers good for eight values.
pub(super) trait Doubles: Copy {
    unsafe fn splat(value: f64) -> Self;
    unsafe fn load(from: *const f64) -> Self;
    unsafe fn store(self, to: *mut f64);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self + a * b`, rounded once.
    unsafe fn plus(self, a: Self, b: Self) -> Self;
    /// `self - a * b`, rounded once.
    unsafe fn minus(self, a: Self, b: Self) -> Self;
    /// The greater; the other of what cannot be compared.
    unsafe fn max(self, other: Self) -> Self;
    /// `self`, or zero where `measure` is less than `limit`.
    unsafe fn unless_below(self, measure: Self, limit: f64) -> Self;
    /// `self` times two to the power that stands in the lowest bits of `power`, if neither the factor
    /// nor the product is subnormal.
    unsafe fn scaled(self, power: Self) -> Self;
    /// n and m with 2^n m = `self` and m between the roots of 1/2 and 2, of what is positive, finite
    /// and not subnormal.
    unsafe fn split(self) -> (Self, Self);
}

/// What [`Doubles::split`] is made of: the bits of 1 less those of the root of 1/2, the latter, those
/// of a fraction, and those of 2^52, which makes a number of an exponent, with what that is too large by.
const BITS_TO_ONE: u64 = 0x3ff0_0000_0000_0000 - BITS_OF_ROOT;
const BITS_OF_ROOT: u64 = 0x3fe6_a09e_667f_3bcd;
const FRACTION: u64 = 0x000f_ffff_ffff_ffff;
const BITS_OF_LARGE: u64 = 0x4330_0000_0000_0000;
const LARGE: f64 = 4_503_599_627_370_496.0 + 1023.0;

/// Number of lanes of [`Doubles`].
pub(super) const EIGHT: usize = 8;

/// Four `f32` without any instruction set beyond the language: the twin that the others are
/// compared with, and all there is on other machines.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; 4]);

impl Plain {
    #[inline(always)]
    fn each(self, other: Self, mut with: impl FnMut(f32, f32) -> f32) -> Self {
        let mut out = self.0;
        for (a, b) in out.iter_mut().zip(other.0) {
            *a = with(*a, b);
        }
        Plain(out)
    }
}

impl Singles for Plain {
    const WIDTH: usize = 4;
    type Mask = [bool; 4];

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Plain([value; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller promises four values.
        Plain(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller promises room for four values.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.each(other, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.each(other, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.each(other, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn root(self) -> (Self, Self) {
        let root = self.0.map(f32::sqrt);
        (Plain(root), Plain(root.map(|root| 1.0 / root)))
    }

    #[inline(always)]
    unsafe fn plus(self, a: Self, b: Self) -> Self {
        let mut out = self.0;
        for ((sum, a), b) in out.iter_mut().zip(a.0).zip(b.0) {
            *sum = a.mul_add(b, *sum);
        }
        Plain(out)
    }

    #[inline(always)]
    unsafe fn minus(self, a: Self, b: Self) -> Self {
        let mut out = self.0;
        for ((rest, a), b) in out.iter_mut().zip(a.0).zip(b.0) {
            *rest = (-a).mul_add(b, *rest);
        }
        Plain(out)
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.each(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.each(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    unsafe fn less(self, other: Self) -> [bool; 4] {
        let mut mask = [false; 4];
        for ((set, a), b) in mask.iter_mut().zip(self.0).zip(other.0) {
            *set = a < b;
        }
        mask
    }

    #[inline(always)]
    unsafe fn pick(mask: [bool; 4], a: Self, b: Self) -> Self {
        let mut out = b.0;
        for ((value, set), a) in out.iter_mut().zip(mask).zip(a.0) {
            if set {
                *value = a;
            }
        }
        Plain(out)
    }
}

/// Eight `f64` without any instruction set beyond the language.
#[derive(Clone, Copy)]
pub(super) struct PlainDoubles([f64; EIGHT]);

impl PlainDoubles {
    #[inline(always)]
    fn each(self, other: Self, with: impl Fn(f64, f64) -> f64) -> Self {
        let mut out = self.0;
        for (a, b) in out.iter_mut().zip(other.0) {
            *a = with(*a, b);
        }
        PlainDoubles(out)
    }
}

impl Doubles for PlainDoubles {
    #[inline(always)]
    unsafe fn splat(value: f64) -> Self {
        PlainDoubles([value; EIGHT])
    }

    #[inline(always)]
    unsafe fn load(from: *const f64) -> Self {
        // SAFETY: the caller promises eight values.
        PlainDoubles(unsafe { from.cast::<[f64; EIGHT]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f64) {
        // SAFETY: the caller promises room for eight values.
        unsafe { to.cast::<[f64; EIGHT]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.each(other, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.each(other, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.each(other, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.each(other, |a, b| a / b)
    }

    #[inline(always)]
    unsafe fn plus(self, a: Self, b: Self) -> Self {
        let product = a.0.iter().zip(b.0);
        let mut out = self.0;
        for (sum, (a, b)) in out.iter_mut().zip(product) {
            *sum = a.mul_add(b, *sum);
        }
        PlainDoubles(out)
    }

    #[inline(always)]
    unsafe fn minus(self, a: Self, b: Self) -> Self {
        let product = a.0.iter().zip(b.0);
        let mut out = self.0;
        for (rest, (a, b)) in out.iter_mut().zip(product) {
            *rest = (-a).mul_add(b, *rest);
        }
        PlainDoubles(out)
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.each(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    unsafe fn unless_below(self, measure: Self, limit: f64) -> Self {
        self.each(measure, |value, measure| if measure < limit { 0.0 } else { value })
    }

    #[inline(always)]
    unsafe fn scaled(self, power: Self) -> Self {
        self.each(power, |value, power| {
            f64::from_bits(value.to_bits().wrapping_add(power.to_bits() << 52))
        })
    }

    #[inline(always)]
    unsafe fn split(self) -> (Self, Self) {
        let shifted = self.0.map(|value| value.to_bits().wrapping_add(BITS_TO_ONE));
        let exponent = shifted.map(|bits| f64::from_bits((bits >> 52) | BITS_OF_LARGE) - LARGE);
        let rest = shifted.map(|bits| f64::from_bits((bits & FRACTION) + BITS_OF_ROOT));
        (PlainDoubles(exponent), PlainDoubles(rest))
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    //! The instruction sets of x86-64.

    use super::{BITS_OF_LARGE, BITS_OF_ROOT, BITS_TO_ONE, Doubles, FRACTION, LARGE, Singles};
    use std::arch::x86_64::*;

    /// Eight `f32` (AVX2 and FMA).
    #[derive(Clone, Copy)]
    pub(in crate::kernels) struct Avx2(__m256);

    impl Singles for Avx2 {
        const WIDTH: usize = 8;
        type Mask = __m256;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            unsafe { Avx2(_mm256_set1_ps(value)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Avx2(_mm256_loadu_ps(from)) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm256_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Avx2(_mm256_add_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            unsafe { Avx2(_mm256_sub_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Avx2(_mm256_mul_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn root(self) -> (Self, Self) {
            unsafe {
                let root = _mm256_sqrt_ps(self.0);
                (Avx2(root), Avx2(_mm256_div_ps(_mm256_set1_ps(1.0), root)))
            }
        }
        #[inline(always)]
        unsafe fn plus(self, a: Self, b: Self) -> Self {
            unsafe { Avx2(_mm256_fmadd_ps(a.0, b.0, self.0)) }
        }
        #[inline(always)]
        unsafe fn minus(self, a: Self, b: Self) -> Self {
            unsafe { Avx2(_mm256_fnmadd_ps(a.0, b.0, self.0)) }
        }
        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            unsafe { Avx2(_mm256_min_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe { Avx2(_mm256_max_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn less(self, other: Self) -> __m256 {
            unsafe { _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0) }
        }
        #[inline(always)]
        unsafe fn pick(mask: __m256, a: Self, b: Self) -> Self {
            unsafe { Avx2(_mm256_blendv_ps(b.0, a.0, mask)) }
        }
    }

    /// Sixteen `f32` (AVX-512).
    #[derive(Clone, Copy)]
    pub(in crate::kernels) struct Avx512(__m512);

    impl Singles for Avx512 {
        const WIDTH: usize = 16;
        type Mask = __mmask16;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            unsafe { Avx512(_mm512_set1_ps(value)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Avx512(_mm512_loadu_ps(from)) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Avx512(_mm512_add_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            unsafe { Avx512(_mm512_sub_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Avx512(_mm512_mul_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn root(self) -> (Self, Self) {
            unsafe {
                // An estimate to 14 bits, and one of Newton's steps, take a fifth of the time of a root
                // and a division.
                let estimate = _mm512_rsqrt14_ps(self.0);
                let half = _mm512_mul_ps(self.0, _mm512_set1_ps(0.5));
                let rest =
                    _mm512_fnmadd_ps(_mm512_mul_ps(half, estimate), estimate, _mm512_set1_ps(1.5));
                let reciprocal = _mm512_mul_ps(estimate, rest);
                (Avx512(_mm512_mul_ps(self.0, reciprocal)), Avx512(reciprocal))
            }
        }
        #[inline(always)]
        unsafe fn plus(self, a: Self, b: Self) -> Self {
            unsafe { Avx512(_mm512_fmadd_ps(a.0, b.0, self.0)) }
        }
        #[inline(always)]
        unsafe fn minus(self, a: Self, b: Self) -> Self {
            unsafe { Avx512(_mm512_fnmadd_ps(a.0, b.0, self.0)) }
        }
        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            unsafe { Avx512(_mm512_min_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe { Avx512(_mm512_max_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn less(self, other: Self) -> __mmask16 {
            unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0) }
        }
        #[inline(always)]
        unsafe fn pick(mask: __mmask16, a: Self, b: Self) -> Self {
            unsafe { Avx512(_mm512_mask_blend_ps(mask, b.0, a.0)) }
        }
    }

    /// Eight `f64` in one register (AVX-512).
    #[derive(Clone, Copy)]
    pub(in crate::kernels) struct Avx512Doubles(__m512d);

    impl Doubles for Avx512Doubles {
        #[inline(always)]
        unsafe fn splat(value: f64) -> Self {
            unsafe { Avx512Doubles(_mm512_set1_pd(value)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f64) -> Self {
            unsafe { Avx512Doubles(_mm512_loadu_pd(from)) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f64) {
            unsafe { _mm512_storeu_pd(to, self.0) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Avx512Doubles(_mm512_add_pd(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            unsafe { Avx512Doubles(_mm512_sub_pd(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Avx512Doubles(_mm512_mul_pd(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            unsafe { Avx512Doubles(_mm512_div_pd(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn plus(self, a: Self, b: Self) -> Self {
            unsafe { Avx512Doubles(_mm512_fmadd_pd(a.0, b.0, self.0)) }
        }
        #[inline(always)]
        unsafe fn minus(self, a: Self, b: Self) -> Self {
            unsafe { Avx512Doubles(_mm512_fnmadd_pd(a.0, b.0, self.0)) }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe { Avx512Doubles(_mm512_max_pd(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn unless_below(self, measure: Self, limit: f64) -> Self {
            unsafe {
                let below = _mm512_cmp_pd_mask::<_CMP_LT_OQ>(measure.0, _mm512_set1_pd(limit));
                Avx512Doubles(_mm512_mask_blend_pd(below, self.0, _mm512_setzero_pd()))
            }
        }
        #[inline(always)]
        unsafe fn scaled(self, power: Self) -> Self {
            unsafe {
                let shifted = _mm512_slli_epi64::<52>(_mm512_castpd_si512(power.0));
                let sum = _mm512_add_epi64(_mm512_castpd_si512(self.0), shifted);
                Avx512Doubles(_mm512_castsi512_pd(sum))
            }
        }
        #[inline(always)]
        unsafe fn split(self) -> (Self, Self) {
            unsafe {
                let all = |bits: u64| _mm512_set1_epi64(bits as i64);
                let shifted = _mm512_add_epi64(_mm512_castpd_si512(self.0), all(BITS_TO_ONE));
                let large = _mm512_or_si512(_mm512_srli_epi64::<52>(shifted), all(BITS_OF_LARGE));
                let exponent = _mm512_sub_pd(_mm512_castsi512_pd(large), _mm512_set1_pd(LARGE));
                let fraction = _mm512_and_si512(shifted, all(FRACTION));
                let rest = _mm512_add_epi64(fraction, all(BITS_OF_ROOT));
                (Avx512Doubles(exponent), Avx512Doubles(_mm512_castsi512_pd(rest)))
            }
        }
    }

    /// Eight `f64` in two registers (AVX2 and FMA).
    #[derive(Clone, Copy)]
    pub(in crate::kernels) struct Avx2Doubles(__m256d, __m256d);

    impl Doubles for Avx2Doubles {
        #[inline(always)]
        unsafe fn splat(value: f64) -> Self {
            unsafe { Avx2Doubles(_mm256_set1_pd(value), _mm256_set1_pd(value)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f64) -> Self {
            unsafe { Avx2Doubles(_mm256_loadu_pd(from), _mm256_loadu_pd(from.add(4))) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f64) {
            unsafe {
                _mm256_storeu_pd(to, self.0);
                _mm256_storeu_pd(to.add(4), self.1);
            }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Avx2Doubles(_mm256_add_pd(self.0, other.0), _mm256_add_pd(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            unsafe { Avx2Doubles(_mm256_sub_pd(self.0, other.0), _mm256_sub_pd(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Avx2Doubles(_mm256_mul_pd(self.0, other.0), _mm256_mul_pd(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            unsafe { Avx2Doubles(_mm256_div_pd(self.0, other.0), _mm256_div_pd(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn plus(self, a: Self, b: Self) -> Self {
            unsafe {
                Avx2Doubles(_mm256_fmadd_pd(a.0, b.0, self.0), _mm256_fmadd_pd(a.1, b.1, self.1))
            }
        }
        #[inline(always)]
        unsafe fn minus(self, a: Self, b: Self) -> Self {
            unsafe {
                Avx2Doubles(_mm256_fnmadd_pd(a.0, b.0, self.0), _mm256_fnmadd_pd(a.1, b.1, self.1))
            }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe { Avx2Doubles(_mm256_max_pd(self.0, other.0), _mm256_max_pd(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn unless_below(self, measure: Self, limit: f64) -> Self {
            unsafe {
                let limit = _mm256_set1_pd(limit);
                let low = _mm256_cmp_pd::<_CMP_LT_OQ>(measure.0, limit);
                let high = _mm256_cmp_pd::<_CMP_LT_OQ>(measure.1, limit);
                Avx2Doubles(_mm256_andnot_pd(low, self.0), _mm256_andnot_pd(high, self.1))
            }
        }
        #[inline(always)]
        unsafe fn scaled(self, power: Self) -> Self {
            unsafe {
                let low = _mm256_slli_epi64::<52>(_mm256_castpd_si256(power.0));
                let high = _mm256_slli_epi64::<52>(_mm256_castpd_si256(power.1));
                Avx2Doubles(
                    _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(self.0), low)),
                    _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(self.1), high)),
                )
            }
        }
        #[inline(always)]
        unsafe fn split(self) -> (Self, Self) {
            unsafe {
                let half = |value: __m256d| {
                    let all = |bits: u64| _mm256_set1_epi64x(bits as i64);
                    let shifted = _mm256_add_epi64(_mm256_castpd_si256(value), all(BITS_TO_ONE));
                    let large =
                        _mm256_or_si256(_mm256_srli_epi64::<52>(shifted), all(BITS_OF_LARGE));
                    let exponent = _mm256_sub_pd(_mm256_castsi256_pd(large), _mm256_set1_pd(LARGE));
                    let fraction = _mm256_and_si256(shifted, all(FRACTION));
                    let rest = _mm256_add_epi64(fraction, all(BITS_OF_ROOT));
                    (exponent, _mm256_castsi256_pd(rest))
                };
                let (low, high) = (half(self.0), half(self.1));
                (Avx2Doubles(low.0, high.0), Avx2Doubles(low.1, high.1))
            }
        }
    }
}
