//! Sessions: the calls that segment.

use std::ffi::{CString, c_char, c_void};
use std::ptr;

use super::constants::*;
use super::convert::{options_in, outputs_in, volume_in};
use super::guard::{guard, guard_value};
use super::model::patchmask_model;
use super::pointers::{borrow, check_out, read_struct, struct_size, write_struct};
use super::types::*;
use crate::engine::{DeviceKind, LogLevel};
use crate::error::Error;
use crate::float_modes::as_host;
use crate::session::{Session, Stage};
use crate::volume::Volume;

/// Workspace and threads for segmenting with one model and one set of options. Runs one call at a
/// time; use one session per thread. Cancelling and asking for progress are allowed from any thread.
pub struct patchmask_session {
    session: Session,
    engine_name: CString,
    progress: patchmask_progress_callback,
    progress_user_data: *mut c_void,
    log: Log,
}

/// The caller's log, with the pointer that it asked for.
#[derive(Clone, Copy)]
struct Log {
    callback: patchmask_log_callback,
    user_data: *mut c_void,
}

impl Log {
    fn tell(self, level: LogLevel, text: &str) {
        if let (Some(callback), Ok(text)) = (self.callback, CString::new(text)) {
            let level = match level {
                LogLevel::Warning => PATCHMASK_LOG_WARNING,
                LogLevel::Info => PATCHMASK_LOG_INFO,
            };
            // SAFETY: the caller's callback, with the pointer that it asked for.
            as_host(|| unsafe { callback(level, text.as_ptr(), self.user_data) });
        }
    }
}

/// Makes a session. Copies `*options`; keeps what it needs of the model, which may be freed before
/// the session. On success `*out_session` is a new session: free it with patchmask_session_free.
/// Errors: INVALID_ARGUMENT (an option, or a model that does not fit the patch size), BAD_MODEL (weights that
/// overflow fp16 when pooling is folded), NO_DEVICE, OUT_OF_MEMORY, DEVICE_OUT_OF_MEMORY, DEVICE_FAILED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_session_new(
    model: *const patchmask_model,
    options: *const patchmask_options,
    out_session: *mut *mut patchmask_session,
) -> patchmask_status {
    guard(|| {
        check_out(out_session, "out_session")?;
        // SAFETY: by contract of this function.
        let (model, raw) = unsafe { (borrow(model, "model")?, options_in(options)?) };
        let options = raw.to_options()?;
        let log = Log { callback: raw.log, user_data: raw.log_user_data };
        let session = Session::new(&model.model, options, &mut |level, text| log.tell(level, text))?;
        let engine_name = CString::new(session.engine_name()).unwrap_or_default();
        let session = Box::new(patchmask_session {
            session,
            engine_name,
            progress: raw.progress,
            progress_user_data: raw.progress_user_data,
            log,
        });
        // SAFETY: checked above.
        unsafe { out_session.write(Box::into_raw(session)) };
        Ok(())
    })
}

/// The engine in use, for people: such as "cpu (avx512f, 2 threads)". NULL if `session` is NULL.
/// Valid as long as the session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_session_engine_name(session: *const patchmask_session) -> *const c_char {
    guard_value(ptr::null(), || {
        // SAFETY: by contract of this function.
        Ok(unsafe { borrow(session, "session") }?.engine_name.as_ptr())
    })
}

/// Estimates the work and memory of segmenting, without running it. Uses the volume's extents only (its `data`
/// may be NULL) and, where given, the ROI's voxels: with options.body an upper bound. `*out_estimate` has been initialised by
/// patchmask_estimate_init. Errors: as patchmask_session_segment.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_session_estimate(
    session: *mut patchmask_session,
    volume: *const patchmask_volume,
    roi: *const patchmask_volume,
    out_estimate: *mut patchmask_estimate,
) -> patchmask_status {
    guard(|| {
        // SAFETY: by contract of this function.
        let (session, volume) = unsafe {
            let session = borrow(session, "session")?;
            struct_size(out_estimate, "out_estimate")?;
            (session, read_struct(volume, "volume", std::mem::zeroed::<patchmask_volume>())?)
        };
        let (extents, spacing) = (volume.extents_in("volume")?, volume.spacing_in("volume")?);
        // SAFETY: by contract of this function.
        let roi = unsafe { roi_in(roi) }?;
        let estimate = session.session.estimate(extents, spacing, roi.as_ref())?;
        let out = patchmask_estimate {
            struct_size: size_of::<patchmask_estimate>(),
            grid_width: estimate.grid_width,
            grid_height: estimate.grid_height,
            classes: estimate.classes,
            patches: estimate.work.patches,
            macs: estimate.work.macs,
            macs_unshared: estimate.work.macs_unshared,
            peak_bytes: estimate.peak.host,
            tiles: estimate.work.tiles,
            device_peak_bytes: estimate.peak.device,
            grid_origin_x: estimate.centres.origin[0],
            grid_origin_y: estimate.centres.origin[1],
            grid_spacing_x: estimate.centres.spacing[0],
            grid_spacing_y: estimate.centres.spacing[1],
            pixel_width: estimate.centres.pixel[0],
            pixel_height: estimate.centres.pixel[1],
        };
        // SAFETY: checked above.
        unsafe { write_struct(out_estimate, &out) };
        Ok(())
    })
}

/// Segments `volume` into the buffers of `outputs`. `roi` may be NULL; otherwise it has the extents
/// of the volume, and only patches that decide a voxel inside it are evaluated: those whose footprint
/// touches a non-zero voxel (its rescaled value is compared with 0; NaN is outside), and with
/// PATCHMASK_INTERPOLATION_LINEAR all centres around such a voxel.
/// `out_result` may be NULL; otherwise patchmask_result_init has initialised it.
///
/// Blocks until done; the calling thread only waits and runs the progress callback. Results do not
/// depend on threads, memory budget or repetition. Errors: INVALID_ARGUMENT, OUT_OF_MEMORY, UNSUPPORTED,
/// DEVICE_OUT_OF_MEMORY, DEVICE_FAILED, BAD_MODEL (activations overflow), CANCELLED, BUSY, WRONG_PROCESS.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_session_segment(
    session: *mut patchmask_session,
    volume: *const patchmask_volume,
    roi: *const patchmask_volume,
    outputs: *const patchmask_outputs,
    out_result: *mut patchmask_result,
) -> patchmask_status {
    guard(|| {
        // SAFETY: by contract of this function.
        let (this, volume, roi, mut outputs) =
            unsafe { (borrow(session, "session")?, volume_in(volume, "volume")?, roi_in(roi)?, outputs_in(outputs)?) };
        if !out_result.is_null() {
            // SAFETY: by contract of this function.
            unsafe { struct_size(out_result, "out_result") }?;
        }
        let mut progress = |fraction: f64, stage: Stage| {
            let Some(callback) = this.progress else {
                return true;
            };
            let stage = match stage {
                Stage::Plan => PATCHMASK_STAGE_PLAN,
                Stage::Intensity => PATCHMASK_STAGE_INTENSITY,
                Stage::Network => PATCHMASK_STAGE_NETWORK,
                Stage::Mask => PATCHMASK_STAGE_MASK,
            };
            // SAFETY: the caller's callback, with the pointer that it asked for.
            as_host(|| unsafe { callback(fraction, stage, this.progress_user_data) == 0 })
        };
        if let Some(warning) = this.session.warning(volume.spacing()) {
            this.log.tell(LogLevel::Warning, &warning);
        }
        let report = this.session.segment(&volume, roi.as_ref(), &mut outputs, &mut progress)?;
        if report.body_share == 0.0 {
            let text = "body: no slice has a voxel above -500 HU, nothing was evaluated; check the volume's slope and intercept";
            this.log.tell(LogLevel::Warning, text);
        }
        if !out_result.is_null() {
            let result = patchmask_result {
                struct_size: size_of::<patchmask_result>(),
                patches: report.work.patches,
                macs: report.work.macs,
                macs_unshared: report.work.macs_unshared,
                peak_bytes: report.peak.host,
                nonfinite_voxels: report.nonfinite_voxels,
                tiles: report.work.tiles,
                engine: match report.device {
                    DeviceKind::Cpu => PATCHMASK_DEVICE_CPU,
                    DeviceKind::Cuda => PATCHMASK_DEVICE_CUDA,
                },
                plan_seconds: report.timings.plan.as_secs_f64(),
                intensity_seconds: report.timings.intensity.as_secs_f64(),
                network_seconds: report.timings.network.as_secs_f64(),
                mask_seconds: report.timings.mask.as_secs_f64(),
                segment_seconds: report.timings.segment.as_secs_f64(),
                device_peak_bytes: report.peak.device,
                body_share: report.body_share,
            };
            // SAFETY: checked above.
            unsafe { write_struct(out_result, &result) };
        }
        Ok(())
    })
}

/// Gives back the memory that a call leaves behind for the next one: activations, page-locked and device buffers, plans. The
/// session stays usable. Errors: BUSY, WRONG_PROCESS.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_session_trim(session: *mut patchmask_session) -> patchmask_status {
    guard(|| {
        // SAFETY: by contract of this function.
        unsafe { borrow(session, "session") }?.session.trim()
    })
}

/// Number of slices that the current or last patchmask_session_segment of this session has finished; after
/// a failure these slices of the outputs are valid. A call that is refused for its structs or pointers, or
/// as BUSY, does not count. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_session_slices_done(
    session: *const patchmask_session,
    out_slices: *mut u64,
) -> patchmask_status {
    guard(|| {
        // SAFETY: by contract of this function.
        let session = unsafe { borrow(session, "session") }?;
        check_out(out_slices, "out_slices")?;
        // SAFETY: checked above.
        unsafe { out_slices.write(session.session.slices_done()) };
        Ok(())
    })
}

/// Asks the session's current call, an estimate or a segmentation, to stop: it returns PATCHMASK_CANCELLED within 100 ms on
/// the CPU. While no call is running, the next patchmask_session_segment is stopped, also where an estimate comes before it, so
/// that no request is lost between two calls. When a segmentation returns, for whatever reason, all requests made until then are
/// gone. Any thread, the callbacks too; not from a signal handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_session_cancel(session: *mut patchmask_session) -> patchmask_status {
    guard(|| {
        // SAFETY: by contract of this function.
        unsafe { borrow(session, "session") }?.session.cancel();
        Ok(())
    })
}

/// Frees a session; NULL is accepted. While estimating, segmenting or trimming runs on it, also where that begins at the same moment,
/// nothing is freed: patchmask_last_error() says so, and the session is to be freed when the call has returned. Once it is
/// freed, no function may be given it, cancelling included.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_session_free(session: *mut patchmask_session) {
    guard(|| {
        // SAFETY: by contract of this function.
        if let Some(this) = unsafe { session.as_ref() } {
            this.session.close()?;
            // SAFETY: it came from Box::into_raw in patchmask_session_new.
            drop(unsafe { Box::from_raw(session) });
        }
        Ok(())
    });
}

/// A ROI pointer from C: NULL is none.
///
/// # Safety
/// NULL or a valid volume.
unsafe fn roi_in<'a>(roi: *const patchmask_volume) -> Result<Option<Volume<'a>>, Error> {
    if roi.is_null() {
        return Ok(None);
    }
    // SAFETY: by contract of this function.
    unsafe { volume_in(roi, "roi") }.map(Some)
}
