//! Floating-point modes of a thread: rounding, flush to zero, traps. The library computes under those that a program starts with,
//! whatever a host has set, and gives the host's back.

use std::cell::Cell;

/// The control register: MXCSR or FPCR.
pub(crate) type Modes = u64;

/// Round to nearest, denormals kept, exceptions masked.
pub(crate) const DEFAULT: Modes = if cfg!(target_arch = "x86_64") { 0x1f80 } else { 0 };

thread_local! {
    /// The host's modes while this thread is in the library.
    static HOST: Cell<Modes> = const { Cell::new(DEFAULT) };
}

pub(crate) fn get() -> Modes {
    #[cfg(target_arch = "x86_64")]
    {
        let mut modes = 0_u32;
        // SAFETY: stores MXCSR.
        unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut modes, options(nostack)) };
        u64::from(modes)
    }
    #[cfg(target_arch = "aarch64")]
    {
        let modes: u64;
        // SAFETY: reads FPCR.
        unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) modes, options(nostack, nomem)) };
        modes
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    DEFAULT
}

pub(crate) fn set(modes: Modes) {
    #[cfg(target_arch = "x86_64")]
    {
        let modes = modes as u32;
        // SAFETY: a value that `get` gave, or the default of the ABI.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const modes, options(nostack, readonly)) };
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("msr fpcr, {}", in(reg) modes, options(nostack, nomem));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = modes;
}

/// Under the library's modes; the host's come back when it is dropped.
pub(crate) struct Entered {
    /// The host's modes of the call that is further out, where a callback calls the library.
    outer: Modes,
}

pub(crate) fn enter() -> Entered {
    let host = get();
    set(DEFAULT);
    Entered { outer: HOST.replace(host) }
}

impl Drop for Entered {
    fn drop(&mut self) {
        // A callback may have changed them.
        set(HOST.replace(self.outer));
    }
}

/// Runs a callback of the host's under its own modes.
pub(crate) fn as_host<T>(callback: impl FnOnce() -> T) -> T {
    set(HOST.get());
    let outcome = callback();
    HOST.set(get());
    set(DEFAULT);
    outcome
}
