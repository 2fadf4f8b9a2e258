//! Vectors of f32 on the widest instruction set that the machine has, chosen when the engine is made.
//!
//! A kernel is a [`Kernel`]: written once, over [`Simd`], and compiled for each instruction set. All of it must
//! be `#[inline(always)]`, so that it becomes part of the function that the instruction set is enabled for.

/// Instruction sets of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instructions {
    /// AVX-512F: 32 registers of 16 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2 and FMA: 16 registers of 8 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Plain Rust for every machine of this architecture, 4 lanes.
    Portable,
}

impl Instructions {
    /// The instruction sets of this machine, best first.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut available = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                available.insert(0, Self::Avx2);
            }
            if is_x86_feature_detected!("avx512f") {
                available.insert(0, Self::Avx512);
            }
        }
        available
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512f",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            Self::Portable => std::env::consts::ARCH,
        }
    }

    /// A product and the sum that it is added to are rounded once: such instruction sets give the same bits.
    #[cfg(test)]
    pub fn fuse(self) -> bool {
        self != Self::Portable || FUSES
    }

    /// Before other threads read what this one has [streamed](Simd::stream).
    pub(super) fn fence(self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: every x86-64 has it.
        unsafe {
            std::arch::x86_64::_mm_sfence();
        }
    }

    /// Runs a kernel.
    ///
    /// # Safety
    /// The machine has these instructions, and what the kernel itself asks for holds.
    #[inline]
    pub(super) unsafe fn run<K: Kernel>(self, kernel: K) {
        // SAFETY: as the caller promises.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => x86::avx512(kernel),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => x86::avx2(kernel),
                Self::Portable => kernel.run::<Portable>(),
            }
        }
    }
}

/// Arithmetic, written once for all instruction sets.
pub(super) trait Kernel {
    /// # Safety
    /// As the kernel says; and this is inlined into a function that has the instructions of `S`.
    unsafe fn run<S: Simd>(self);
}

/// A register of f32. All functions are inlined into a [`Kernel`].
pub(super) trait Simd: Copy {
    const LANES: usize;
    /// Rows of a product whose sums fit in the registers, [`PANEL`](super::product::PANEL) outputs each.
    const ROWS: usize;

    fn splat(value: f32) -> Self;

    /// # Safety
    /// `from` can be read for [`Simd::LANES`] floats.
    unsafe fn load(from: *const f32) -> Self;

    /// # Safety
    /// `into` can be written for [`Simd::LANES`] floats.
    unsafe fn store(self, into: *mut f32);

    /// Stores past the caches: [`Instructions::fence`] before another thread reads it.
    ///
    /// # Safety
    /// As [`Simd::store`]; `into` is aligned to a register.
    unsafe fn stream(self, into: *mut f32);

    /// Begins to fetch what lies at `from`, which may be any address.
    fn prefetch(from: *const f32);

    fn add(self, other: Self) -> Self;

    /// self + a * b, rounded once where the machine can.
    fn add_product(self, a: Self, b: Self) -> Self;

    /// Negative lanes become 0; NaN stays.
    fn relu(self) -> Self;

    /// The larger of both, of which none is below 0; NaN stays.
    fn larger(self, other: Self) -> Self;
}

/// Elsewhere `mul_add` may be a call of a library.
const FUSES: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

/// Four lanes in plain Rust, which compilers make one register of.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; 4]);

impl Portable {
    #[inline(always)]
    fn each(self, f: impl Fn(usize, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| f(lane, self.0[lane])))
    }
}

impl Simd for Portable {
    const LANES: usize = 4;
    /// 32 registers on aarch64, 16 elsewhere.
    const ROWS: usize = if cfg!(target_arch = "aarch64") { 3 } else { 1 };

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as the caller promises.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, into: *mut f32) {
        // SAFETY: as the caller promises.
        unsafe { into.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn stream(self, into: *mut f32) {
        // SAFETY: as the caller promises.
        unsafe { self.store(into) }
    }

    #[inline(always)]
    fn prefetch(_: *const f32) {}

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.each(|lane, x| x + other.0[lane])
    }

    #[inline(always)]
    fn add_product(self, a: Self, b: Self) -> Self {
        if FUSES {
            self.each(|lane, x| a.0[lane].mul_add(b.0[lane], x))
        } else {
            self.each(|lane, x| x + a.0[lane] * b.0[lane])
        }
    }

    #[inline(always)]
    fn relu(self) -> Self {
        self.each(|_, x| if x < 0.0 { 0.0 } else { x })
    }

    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        // As integers such numbers have the same order, and NaN is above them.
        self.each(|lane, x| f32::from_bits(x.to_bits().max(other.0[lane].abs().to_bits())))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Kernel, Simd};

    /// # Safety
    /// As [`Kernel::run`]; the machine has AVX-512F.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn avx512<K: Kernel>(kernel: K) {
        // SAFETY: as the caller promises.
        unsafe { kernel.run::<Avx512>() }
    }

    /// # Safety
    /// As [`Kernel::run`]; the machine has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2<K: Kernel>(kernel: K) {
        // SAFETY: as the caller promises.
        unsafe { kernel.run::<Avx2>() }
    }

    #[derive(Clone, Copy)]
    pub struct Avx512(__m512);

    #[derive(Clone, Copy)]
    pub struct Avx2(__m256);

    // SAFETY of all that follows: a `Kernel` runs these only inside a function that has the instructions.

    macro_rules! simd {
        ($name:ident, $lanes:literal, $rows:literal, $set:ident, $load:ident, $store:ident, $stream:ident, $add:ident,
         $fmadd:ident, $max:ident, $zero:ident, $bits:ident, $of_bits:ident, $and:ident, $set_bits:ident, $max_bits:ident) => {
            impl Simd for $name {
                const LANES: usize = $lanes;
                const ROWS: usize = $rows;

                #[inline(always)]
                fn splat(value: f32) -> Self {
                    Self(unsafe { $set(value) })
                }

                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    Self(unsafe { $load(from) })
                }

                #[inline(always)]
                unsafe fn store(self, into: *mut f32) {
                    unsafe { $store(into, self.0) }
                }

                #[inline(always)]
                unsafe fn stream(self, into: *mut f32) {
                    unsafe { $stream(into, self.0) }
                }

                #[inline(always)]
                fn prefetch(from: *const f32) {
                    // Into the second cache: the first is full of what is at work.
                    unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
                }

                #[inline(always)]
                fn add(self, other: Self) -> Self {
                    Self(unsafe { $add(self.0, other.0) })
                }

                #[inline(always)]
                fn add_product(self, a: Self, b: Self) -> Self {
                    Self(unsafe { $fmadd(a.0, b.0, self.0) })
                }

                #[inline(always)]
                fn relu(self) -> Self {
                    // max(0, NaN) is the second operand.
                    Self(unsafe { $max($zero(), self.0) })
                }

                #[inline(always)]
                fn larger(self, other: Self) -> Self {
                    Self(unsafe { $of_bits($max_bits($bits(self.0), $and($bits(other.0), $set_bits(i32::MAX)))) })
                }
            }
        };
    }
    simd!(
        Avx512, 16, 12, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_stream_ps, _mm512_add_ps,
        _mm512_fmadd_ps, _mm512_max_ps, _mm512_setzero_ps, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_and_si512,
        _mm512_set1_epi32, _mm512_max_epi32
    );
    simd!(
        Avx2, 8, 3, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_stream_ps, _mm256_add_ps,
        _mm256_fmadd_ps, _mm256_max_ps, _mm256_setzero_ps, _mm256_castps_si256, _mm256_castsi256_ps, _mm256_and_si256,
        _mm256_set1_epi32, _mm256_max_epi32
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums, sums with products, rectified values and the larger ones of two of these, of 16 numbers.
    struct Operations<'a>([&'a [f32; 16]; 3], &'a mut [[f32; 16]; 4]);

    impl Kernel for Operations<'_> {
        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            let Self(numbers, into) = self;
            for lane in (0..16).step_by(S::LANES) {
                // SAFETY: 16 is a multiple of every number of lanes.
                unsafe {
                    let [x, y, z] = numbers.map(|numbers| S::load(numbers.as_ptr().add(lane)));
                    let results =
                        [x.add(y), x.add_product(y, z), x.relu(), S::splat(0.0).larger(x.relu()).larger(y.relu())];
                    into.iter_mut().zip(results).for_each(|(into, result)| result.store(into.as_mut_ptr().add(lane)));
                }
            }
        }
    }

    /// Kernels have the same order of operations on all of them; so results have the same bits.
    #[test]
    fn instruction_sets_that_fuse_give_the_same_bits() {
        let special = [0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38, 1e-38, f32::INFINITY, f32::NAN];
        let number = |i: usize| *special.get(i % 23).unwrap_or(&((i * 7919 % 1009) as f32 / 1009.0 - 0.5));
        for instructions in Instructions::available().into_iter().filter(|instructions| instructions.fuse()) {
            for trial in 0..1000 {
                let [x, y, z] =
                    [0, 5, 11].map(|k| std::array::from_fn(|lane| number((trial * 16 + lane) * (k + 1) + k)));
                let mut have = [[0.0; 16]; 4];
                // SAFETY: the machine has these instructions.
                unsafe { instructions.run(Operations([&x, &y, &z], &mut have)) };
                for lane in 0..16 {
                    let (x, y, z) = (x[lane], y[lane], z[lane]);
                    let relu = |x: f32| if x < 0.0 { 0.0 } else { x };
                    let larger = if x.is_nan() || y.is_nan() { f32::NAN } else { relu(x).max(relu(y)).abs() };
                    let want = [x + y, y.mul_add(z, x), relu(x), larger];
                    for (have, want) in have.iter().zip(want) {
                        let same = have[lane].to_bits() == want.to_bits() || have[lane].is_nan() && want.is_nan();
                        assert!(same, "{instructions:?}, {x}, {y}, {z}: {}, must be {want}", have[lane]);
                    }
                }
            }
        }
    }
}
