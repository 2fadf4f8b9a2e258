//! Arguments of calls: mostly usable, now and then any numbers.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::null_mut;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use patchmask::ffi::*;

use crate::models::Model;
use crate::{check, mostly, rarely};

/// Larger structs are refused.
const MAX_STRUCT: usize = 4096;

/// A struct as a program of another version has it: `struct_size` is any, and so is what is behind the known fields.
#[repr(C)]
pub struct Versioned<T> {
    pub known: T,
    later: [u8; MAX_STRUCT],
}

impl<T> Versioned<T> {
    pub fn arbitrary(u: &mut Unstructured, known: T) -> Result<Self> {
        let mut this = Self { known, later: [u.arbitrary()?; MAX_STRUCT] };
        if rarely(u, 24) {
            let size = (&raw mut this.known).cast::<usize>();
            // SAFETY: every struct begins with its size. A larger one than this memory is refused.
            unsafe { size.write(if rarely(u, 2) { u.arbitrary()? } else { size.read() + u.int_in_range(0..=64)? }) };
        }
        Ok(this)
    }

    /// NULL now and then.
    pub fn pointer(&mut self, u: &mut Unstructured) -> *mut T {
        if rarely(u, 64) { null_mut() } else { &raw mut self.known }
    }
}

/// What callbacks do and saw.
#[derive(Default)]
pub struct Callbacks {
    pub session: *mut patchmask_session,
    /// Calls of `progress` until it stops the call; 0: never.
    stops_at: u8,
    by_cancel: bool,
    told: u8,
    fraction: f64,
}

unsafe extern "C" fn progress(fraction: f64, stage: i32, user_data: *mut c_void) -> i32 {
    // SAFETY: made by `options`, and in use by nobody else meanwhile.
    let callbacks = unsafe { &mut *user_data.cast::<Callbacks>() };
    assert!((callbacks.fraction..=1.0).contains(&fraction) && (1..=4).contains(&stage));
    callbacks.fraction = fraction;
    callbacks.told = callbacks.told.saturating_add(1);
    let stops = callbacks.stops_at != 0 && callbacks.told >= callbacks.stops_at;
    // SAFETY: the session that is running this call.
    unsafe {
        check(patchmask_session_trim(callbacks.session), &[PATCHMASK_BUSY]);
        if stops && callbacks.by_cancel {
            check(patchmask_session_cancel(callbacks.session), &[]);
        }
    }
    i32::from(stops && !callbacks.by_cancel)
}

unsafe extern "C" fn log(level: i32, message: *const c_char, _: *mut c_void) {
    // SAFETY: a text that lives during the call.
    let text = unsafe { CStr::from_ptr(message) }.to_str().expect("UTF-8");
    assert!((1..=2).contains(&level) && !text.is_empty());
}

/// Options for a model. At most `patches` patches along an axis of `extents`.
pub fn options(
    u: &mut Unstructured,
    model: &Model,
    extents: [u64; 3],
    patches: u64,
    callbacks: &mut Callbacks,
) -> Result<Versioned<patchmask_options>> {
    // SAFETY: numbers and pointers.
    let mut o: patchmask_options = unsafe { std::mem::zeroed() };
    // SAFETY: a struct of its own size, a model that lives for ever.
    check(unsafe { patchmask_options_init(&raw mut o, size_of_val(&o), model.handle) }, &[]);
    let patch_size = u.int_in_range(model.patch_sizes.clone())?;
    o.patch_size = mostly(u, patch_size)?;
    let largest = o.patch_size.clamp(1, PATCHMASK_PATCH_SIZE_MAX);
    let least = extents[0].max(extents[1]).div_ceil(patches).clamp(1, largest.into()) as u32;
    let stride = u.int_in_range(least..=largest)?;
    o.stride = mostly(u, stride)?;
    let padding = u.int_in_range(0..=1)?;
    o.padding = mostly(u, padding)?;
    let interpolation = u.int_in_range(0..=1)?;
    o.interpolation = mostly(u, interpolation)?;
    let window = (f64::from(u.arbitrary::<i8>()?), f64::from(u.arbitrary::<u8>()?));
    o.window_low = mostly(u, window.0)?;
    o.window_high = mostly(u, window.0 + window.1)?;
    if rarely(u, 3) {
        let mean = f64::from(u.arbitrary::<i8>()?) / 128.0;
        o.mean = [mostly(u, mean)?, mostly(u, 0.5)?, mostly(u, 0.4)?];
        o.std = [mostly(u, 0.2)?, mostly(u, 0.3)?, mostly(u, 1.0)?];
    }
    let equalize = u.int_in_range(0..=1)?;
    o.equalize = mostly(u, equalize)?;
    let sharing = i32::from(!rarely(u, 4));
    o.sharing = mostly(u, sharing)?;
    let body = i32::from(rarely(u, 3));
    o.body = mostly(u, body)?;
    if rarely(u, 3) {
        let x = [u.int_in_range(0..=extents[0])?, u.int_in_range(0..=extents[0])?];
        let y = [u.int_in_range(0..=extents[1])?, u.int_in_range(0..=extents[1])?];
        o.crop_x0 = mostly(u, x[0].min(x[1]))?;
        o.crop_y0 = mostly(u, y[0].min(y[1]))?;
        o.crop_x1 = mostly(u, x[0].max(x[1]))?;
        o.crop_y1 = mostly(u, y[0].max(y[1]))?;
    }
    let lesion_class = u.int_in_range(0..=model.classes - 1)?;
    o.lesion_class = mostly(u, lesion_class)?;
    o.device = mostly(u, PATCHMASK_DEVICE_CPU)?;
    o.cuda_devices = mostly(u, 0)?;
    o.threads = u.int_in_range(1..=3)?;
    if rarely(u, 64) {
        o.threads = 1025 + u.int_in_range(0..=9)?;
    }
    if rarely(u, 3) {
        o.memory_budget = u.int_in_range(0..=64 << 20)?;
    }
    o.memory_budget = mostly(u, o.memory_budget)?;
    if rarely(u, 2) {
        callbacks.stops_at = if rarely(u, 8) { u.int_in_range(1..=2)? } else { 0 };
        callbacks.by_cancel = u.arbitrary()?;
        o.progress = Some(progress);
        o.progress_user_data = (&raw mut *callbacks).cast();
    }
    o.log = u.arbitrary::<bool>()?.then_some(log);
    Versioned::arbitrary(u, o)
}

/// Refusals of `patchmask_session_new` that arguments can bring about.
pub const REFUSALS_OF_NEW: &[patchmask_status] =
    &[PATCHMASK_INVALID_ARGUMENT, PATCHMASK_BAD_MODEL, PATCHMASK_OUT_OF_MEMORY, PATCHMASK_NO_DEVICE];

/// A session that is freed when it is dropped.
pub struct Session(pub *mut patchmask_session);

impl Session {
    /// `None` where the options are refused.
    pub fn new(model: &Model, options: *const patchmask_options) -> Option<Self> {
        let mut session = null_mut();
        // SAFETY: a model that lives for ever, NULL or a struct with memory for its size.
        let status = unsafe { patchmask_session_new(model.handle, options, &raw mut session) };
        let made = check(status, REFUSALS_OF_NEW) == PATCHMASK_OK;
        assert_eq!(made, !session.is_null());
        made.then_some(Self(session))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: made by `new`.
        unsafe { patchmask_session_free(self.0) };
    }
}
