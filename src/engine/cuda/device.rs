//! One GPU of this process: its context and its kernels, shared by all sessions that use it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cudarc::driver::{result, sys};
use once_cell::sync::OnceCell;

use super::driver::{Context, describe};
use super::kernels::{Kernels, Limits};
use crate::error::Error;
use crate::panics::said;

/// Oldest GPU that the kernels are compiled for, as (major, minor).
const LEAST_CAPABILITY: (i32, i32) = (8, 0);
/// Oldest driver that reads the kernels' PTX (ISA 8.4), as CUDA numbers versions: 1000 major + 10 minor.
const LEAST_DRIVER: i32 = 12040;

/// A GPU with the kernels loaded and tried out.
pub(super) struct Device {
    // Before the context, which they need.
    pub kernels: Kernels,
    pub context: Arc<Context>,
    /// Such as "NVIDIA H100 (sm_90)".
    pub name: String,
    pub capability: (i32, i32),
    pub multiprocessors: usize,
    /// Convolution kernels that failed the test at the start.
    pub refused: Vec<&'static str>,
}

/// Runs every kernel of a device; the name of the first that is wrong.
type SelfTest = fn(&Arc<Device>) -> Result<Option<&'static str>, Error>;

/// The devices that some session uses, by process and number: a child of `fork` cannot use its parent's.
static OPEN: Mutex<Vec<(u32, u32, Weak<Device>)>> = Mutex::new(Vec::new());

/// The driver, once it has been initialised; until then every session tries again.
static DRIVER: OnceCell<()> = OnceCell::new();

impl Device {
    /// GPU number `index`, opened now or by another session. Errors: NO_DEVICE with the reason,
    /// DEVICE_OUT_OF_MEMORY.
    pub fn open(index: u32, self_test: SelfTest) -> Result<Arc<Self>, Error> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let process = std::process::id();
        open.retain(|(_, _, device)| device.strong_count() > 0);
        let known = open.iter().find(|(of, number, _)| (*of, *number) == (process, index));
        if let Some(device) = known.and_then(|(_, _, device)| device.upgrade()) {
            return Ok(device);
        }
        let device = Self::start(index, self_test)?;
        open.push((process, index, Arc::downgrade(&device)));
        Ok(device)
    }

    fn start(index: u32, self_test: SelfTest) -> Result<Arc<Self>, Error> {
        // cudarc panics where the driver lacks a function.
        let started = catch_unwind(AssertUnwindSafe(|| {
            DRIVER.get_or_try_init(initialise)?;
            let device = find(index)?;
            let limits = limits(device, index)?;
            let name = result::device::get_name(device).map_err(|e| unusable(index, describe(e)))?;
            let (major, minor) = limits.capability;
            let context = Context::retain(device).map_err(|e| unusable(index, describe(e)))?;
            let no_device = |error| match error {
                Error::DeviceFailed(why) => unusable(index, why),
                other => other,
            };
            let mut refused: Vec<&'static str> = Vec::new();
            loop {
                let device = Arc::new(Self {
                    kernels: Kernels::new(&context, limits, &refused).map_err(no_device)?,
                    context: Arc::clone(&context),
                    name: format!("{name} (sm_{major}{minor})"),
                    capability: limits.capability,
                    multiprocessors: limits.multiprocessors,
                    refused: refused.clone(),
                });
                match self_test(&device)? {
                    None => return Ok(device),
                    Some(kernel) if device.kernels.is_convolution(kernel) => refused.push(kernel),
                    Some(kernel) => {
                        let why = format!("{kernel} gave a wrong result in the test at the start");
                        return Err(unusable(index, why));
                    }
                }
            }
        }));
        started.unwrap_or_else(|panic| match lacking(said(panic.as_ref())) {
            Some(function) => Err(Error::NoDevice(format!(
                "device cuda:{index}: the NVIDIA driver lacks a function that CUDA 12.4 has, {function}: update it"
            ))),
            None => resume_unwind(panic),
        })
    }
}

/// The driver's function that was not found, if that is what cudarc's panic says.
fn lacking(panic: &str) -> Option<&str> {
    panic.strip_prefix("Missing symbol ")?.split(':').next()
}

fn unusable(index: u32, why: String) -> Error {
    Error::NoDevice(format!("device cuda:{index} cannot be used: {why}"))
}

/// Loads the driver.
fn initialise() -> Result<(), Error> {
    // SAFETY: opens a shared library, whose initialisers are the driver's.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::NoDevice("there is no NVIDIA driver on this machine (libcuda was not found)".into()));
    }
    let failed = |error: result::DriverError| {
        let hint = match error.0 {
            sys::CUresult::CUDA_ERROR_STUB_LIBRARY => {
                "; this libcuda is the toolkit's stub: take its folder out of the library path"
            }
            sys::CUresult::CUDA_ERROR_NO_DEVICE => "; there is no NVIDIA GPU",
            _ => "",
        };
        Error::NoDevice(format!("the NVIDIA driver did not start: {}{hint}", describe(error)))
    };
    result::init().map_err(failed)?;
    let mut version = 0;
    // SAFETY: writes one number.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().map_err(failed)?;
    if version < LEAST_DRIVER {
        let text = |version: i32| format!("{}.{}", version / 1000, version % 1000 / 10);
        return Err(Error::NoDevice(format!(
            "the NVIDIA driver offers CUDA {}, at least {} is needed: update it",
            text(version),
            text(LEAST_DRIVER)
        )));
    }
    Ok(())
}

fn find(index: u32) -> Result<sys::CUdevice, Error> {
    let count = result::device::get_count().map_err(|e| unusable(index, describe(e)))?;
    if i64::from(index) >= i64::from(count) {
        return Err(Error::NoDevice(format!("device cuda:{index}: there are {count} CUDA devices, numbered from 0")));
    }
    result::device::get(index as i32).map_err(|e| unusable(index, describe(e)))
}

fn limits(device: sys::CUdevice, index: u32) -> Result<Limits, Error> {
    use sys::CUdevice_attribute as Attribute;
    let ask = |attribute| {
        // SAFETY: a device handle from the driver.
        unsafe { result::device::get_attribute(device, attribute) }.map_err(|e| unusable(index, describe(e)))
    };
    let capability = (
        ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    );
    if capability < LEAST_CAPABILITY {
        return Err(unusable(
            index,
            format!(
                "its compute capability is {}.{}, at least {}.{} is needed",
                capability.0, capability.1, LEAST_CAPABILITY.0, LEAST_CAPABILITY.1
            ),
        ));
    }
    let shared = ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
    let multiprocessors = ask(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    Ok(Limits {
        capability,
        shared_bytes: u32::try_from(shared).unwrap_or(0),
        multiprocessors: usize::try_from(multiprocessors).unwrap_or(1).max(1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any other panic is a defect, and says so.
    #[test]
    fn only_a_missing_function_is_the_drivers_fault() {
        let missing = "Missing symbol cuGraphLaunch: libcuda.so: undefined symbol: cuGraphLaunch";
        assert_eq!(lacking(missing), Some("cuGraphLaunch"));
        assert_eq!(lacking("index out of bounds: the len is 1"), None);
    }
}
