//! One GPU of this process: its context and its kernels, shared by all sessions that use it.
//!
//! ```text
//! once per process and GPU:   in a context of its own, until nothing is wrong any more:
//!                                 load the kernels, run the self-test; a convolution kernel that is wrong is left out
//! then, for sessions:         retain the primary context, load the kernels that are left
//! ```
//! A kernel that writes where it should not, or never ends, does not reach what the host has in its own context. One that traps does:
//! the driver then gives every context of the process the same error, and makes no new ones (seen on an H200, driver 580).

use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Weak};

use cudarc::driver::{result, sys};

use super::driver::{Context, describe};
use super::kernels::{FOR_EVERY_GPU, FOR_HOPPER, Kernels, LeftOut, Limits};
use crate::error::Error;
use crate::panics::said;
use crate::process::{ForkMutex, generation};

/// Oldest GPU that the kernels are compiled for, as (major, minor).
const MIN_CAPABILITY: (i32, i32) = (8, 0);
/// Oldest driver that reads the kernels' PTX (ISA 8.4), as CUDA numbers versions: 1000 major + 10 minor.
const MIN_DRIVER: i32 = 12040;
/// Convolution kernels to be left out, as prefixes of their names with commas between.
const WITHOUT: &str = "PATCHMASK_WITHOUT";

/// A GPU with its kernels loaded.
pub(super) struct Device {
    // Before the context, which they need.
    pub kernels: Kernels,
    pub context: Arc<Context>,
    /// Such as "NVIDIA H100 (sm_90)".
    pub name: String,
    pub limits: Limits,
}

/// A self-test that did not pass.
pub(super) enum Failure {
    /// This kernel, or one of these, gave a wrong result, timed out or failed.
    Wrong { kernel: String, why: String },
    /// This kernel does not end. What the device was running is left as it is: nothing can stop it.
    Hangs { kernel: String },
    /// No kernel is to blame.
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// Runs every kernel of a device.
pub(super) type SelfTest = fn(&Arc<Device>) -> Result<(), Failure>;

/// A GPU as the driver knows it.
struct Gpu {
    index: u32,
    handle: sys::CUdevice,
    uuid: [c_char; 16],
    name: String,
    limits: Limits,
}

/// By the process's generation, for a child of `fork` cannot use what its parent had: the devices that some session uses, by
/// their index, and what the self-test left out, by the GPU's UUID.
#[derive(Default)]
struct Known {
    /// Until the driver has been initialised every session tries again.
    driver: bool,
    devices: Vec<(u64, u32, Weak<Device>)>,
    tested: Vec<(u64, [c_char; 16], Vec<LeftOut>)>,
}

static KNOWN: ForkMutex<Known> = ForkMutex::new(Known { driver: false, devices: Vec::new(), tested: Vec::new() });

impl Device {
    /// GPU number `index`, opened now or by another session, tested now or before. Errors: NO_DEVICE with the reason,
    /// DEVICE_OUT_OF_MEMORY.
    pub fn open(index: u32, self_test: SelfTest) -> Result<Arc<Self>, Error> {
        let mut known = KNOWN.lock();
        let process = generation();
        known.devices.retain(|(_, _, device)| device.strong_count() > 0);
        let open = known.devices.iter().find(|(of, number, _)| (*of, *number) == (process, index));
        if let Some(device) = open.and_then(|(_, _, device)| device.upgrade()) {
            return Ok(device);
        }
        // cudarc panics where the driver lacks a function.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            if !known.driver {
                initialise()?;
                known.driver = true;
            }
            let gpu = Gpu::find(index)?;
            let tested = known.tested.iter().find(|(of, uuid, _)| (*of, *uuid) == (process, gpu.uuid));
            let left_out = match tested {
                Some((_, _, left_out)) => left_out.clone(),
                None => {
                    let left_out = gpu.test(self_test)?;
                    known.tested.push((process, gpu.uuid, left_out.clone()));
                    left_out
                }
            };
            gpu.load(Context::retain(gpu.handle), left_out)
        }));
        let device = opened.unwrap_or_else(|panic| match lacking(said(panic.as_ref())) {
            Some(function) => Err(Error::NoDevice(format!(
                "device cuda:{index}: the NVIDIA driver lacks a function that CUDA 12.4 has, {function}: update it"
            ))),
            None => resume_unwind(panic),
        })?;
        known.devices.push((process, index, Arc::downgrade(&device)));
        Ok(device)
    }
}

impl Gpu {
    fn find(index: u32) -> Result<Self, Error> {
        let failed = |error| unusable(index, describe(error));
        let count = result::device::get_count().map_err(failed)?;
        if i64::from(index) >= i64::from(count) {
            return Err(Error::NoDevice(format!(
                "device cuda:{index}: there are {count} CUDA devices, numbered from 0"
            )));
        }
        let handle = result::device::get(index as i32).map_err(failed)?;
        let limits = limits(handle, index)?;
        Ok(Self {
            index,
            handle,
            uuid: result::device::get_uuid(handle).map_err(failed)?.bytes,
            name: result::device::get_name(handle).map_err(failed)?,
            limits,
        })
    }

    /// The kernels that are to be left out: on request, or since the self-test found them wrong.
    fn test(&self, self_test: SelfTest) -> Result<Vec<LeftOut>, Error> {
        let left_out = on_request(&std::env::var(WITHOUT).unwrap_or_default());
        let mut device = self.load(Context::create(self.handle), left_out)?;
        loop {
            match self_test(&device) {
                Ok(()) => return Ok(device.kernels.left_out.clone()),
                Err(Failure::Other(error)) => return Err(error),
                Err(Failure::Wrong { kernel, why }) => match device.kernels.convolution(&kernel) {
                    Some(kernel) => {
                        let mut left_out = device.kernels.left_out.clone();
                        left_out.push(LeftOut { kernel, why: why.clone() });
                        device = self.load(Context::create(self.handle), left_out).map_err(|error| match error {
                            Error::NoDevice(_) => self.without(kernel, &format!("{why}, after which CUDA is lost")),
                            other => other,
                        })?;
                    }
                    None => return Err(unusable(self.index, format!("{kernel} {why}"))),
                },
                Err(Failure::Hangs { kernel }) => {
                    // Giving anything back would wait for the kernel.
                    std::mem::forget(device);
                    return Err(self.without(&kernel, "does not end in the self-test, and occupies the GPU"));
                }
            }
        }
    }

    /// This kernel has cost the process the GPU.
    fn without(&self, kernel: &str, why: &str) -> Error {
        let remedy = format!("start again with {WITHOUT}={kernel} in the environment");
        unusable(
            self.index,
            format!("{kernel} {why} until this process ends; {remedy}, and please report the GPU and its driver"),
        )
    }

    fn load(
        &self,
        context: Result<Arc<Context>, result::DriverError>,
        left_out: Vec<LeftOut>,
    ) -> Result<Arc<Device>, Error> {
        let context = context.map_err(|error| unusable(self.index, describe(error)))?;
        let kernels = Kernels::new(&context, self.limits, left_out).map_err(|error| match error {
            Error::DeviceFailed(why) => unusable(self.index, why),
            other => other,
        })?;
        let (major, minor) = self.limits.capability;
        let name = format!("{} (sm_{major}{minor})", self.name);
        Ok(Arc::new(Device { kernels, context, name, limits: self.limits }))
    }
}

/// The convolution kernels whose names begin with one of these prefixes.
fn on_request(prefixes: &str) -> Vec<LeftOut> {
    let is_named = |name: &str| prefixes.split(',').any(|prefix| !prefix.is_empty() && name.starts_with(prefix));
    let kernels = FOR_HOPPER.iter().chain(&FOR_EVERY_GPU).map(|shape| shape.name).filter(|name| is_named(name));
    kernels.map(|kernel| LeftOut { kernel, why: format!("named by {WITHOUT}") }).collect()
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
    if version < MIN_DRIVER {
        let text = |version: i32| format!("{}.{}", version / 1000, version % 1000 / 10);
        return Err(Error::NoDevice(format!(
            "the NVIDIA driver offers CUDA {}, at least {} is needed: update it",
            text(version),
            text(MIN_DRIVER)
        )));
    }
    Ok(())
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
    if capability < MIN_CAPABILITY {
        return Err(unusable(
            index,
            format!(
                "its compute capability is {}.{}, at least {}.{} is needed",
                capability.0, capability.1, MIN_CAPABILITY.0, MIN_CAPABILITY.1
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

    #[test]
    fn kernels_are_left_out_by_prefix() {
        let names = |prefixes| on_request(prefixes).into_iter().map(|out| out.kernel).collect::<Vec<_>>();
        assert_eq!(names(""), [""; 0]);
        assert_eq!(names(","), [""; 0]);
        assert_eq!(names("conv3_wgmma"), ["conv3_wgmma_128", "conv3_wgmma_64"]);
        assert_eq!(names("conv3_wgmma_128,conv3_16"), ["conv3_wgmma_128", "conv3_16_128", "conv3_16_64"]);
    }

    /// Any other panic is a defect, and says so.
    #[test]
    fn only_a_missing_function_is_the_drivers_fault() {
        let missing = "Missing symbol cuGraphLaunch: libcuda.so: undefined symbol: cuGraphLaunch";
        assert_eq!(lacking(missing), Some("cuGraphLaunch"));
        assert_eq!(lacking("index out of bounds: the len is 1"), None);
    }
}
