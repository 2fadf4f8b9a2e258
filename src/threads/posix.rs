//! Threads by pthread_create: `std::thread` ends the process where it gets no memory for a thread's handle.

use std::ffi::{CString, c_void};
use std::mem::MaybeUninit;
use std::ptr::null_mut;

use super::body::{Body, STACK_BYTES, begin, not_started};
use crate::error::Error;

/// A thread, which is waited for when this is dropped.
pub(crate) struct Thread(libc::pthread_t);

// SAFETY: any thread may wait for another, once.
unsafe impl Send for Thread {}
// SAFETY: as above.
unsafe impl Sync for Thread {}

impl Thread {
    /// Starts `body`, whose panics end with it. Debuggers show `name`, of at most 15 bytes.
    pub fn spawn(name: &str, body: Body) -> Result<Self, Error> {
        let argument = Box::into_raw(Box::new(body)).cast();
        let _blocked = Blocked::signals();
        let mut thread = MaybeUninit::uninit();
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: attributes that were initialised, a start routine that takes the argument.
        let failed = unsafe {
            let mut failed = libc::pthread_attr_init(attributes.as_mut_ptr());
            if failed == 0 {
                failed = libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), STACK_BYTES);
                if failed == 0 {
                    failed = libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), start, argument);
                }
                libc::pthread_attr_destroy(attributes.as_mut_ptr());
            }
            failed
        };
        if failed != 0 {
            // SAFETY: made above, and no thread has it.
            drop(unsafe { Box::from_raw(argument.cast::<Body>()) });
            return Err(not_started(format_args!("error {failed}")));
        }
        // SAFETY: written where the creation succeeded.
        let thread = Self(unsafe { thread.assume_init() });
        #[cfg(target_os = "linux")]
        if let Ok(name) = CString::new(name) {
            // SAFETY: a thread that lives until it is waited for; a name that is too long is refused.
            unsafe { libc::pthread_setname_np(thread.0, name.as_ptr()) };
        }
        Ok(thread)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // SAFETY: a thread that was started and is waited for once.
        unsafe { libc::pthread_join(self.0, null_mut()) };
    }
}

extern "C" fn start(argument: *mut c_void) -> *mut c_void {
    // SAFETY: made by `spawn` for this thread alone.
    begin(*unsafe { Box::from_raw(argument.cast::<Body>()) });
    null_mut()
}

/// While it lives, new threads of this one begin with all signals blocked but those of their own faults.
struct Blocked {
    before: libc::sigset_t,
}

impl Blocked {
    fn signals() -> Self {
        // SAFETY: writes sets of signals and reads them.
        unsafe {
            let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&raw mut all);
            for own in
                [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT]
            {
                libc::sigdelset(&raw mut all, own);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Self { before }
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the set that was there before.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, null_mut());
        }
    }
}
