//! The engine for a session.

use super::cpu::CpuEngine;
use super::cuda::CudaEngine;
use super::multi_gpu::MultiGpu;
use super::{DeviceChoice, Engine, LogLevel, Note, Settings};
use crate::error::Error;

/// The engine on the GPUs that the caller asked for; `None` where `auto` does without. `notes` gets the reason, and
/// everything amiss with the GPUs.
pub(crate) fn gpu(
    choice: &DeviceChoice,
    settings: &Settings<'_>,
    notes: &mut Vec<Note>,
) -> Result<Option<Box<dyn Engine>>, Error> {
    let indices: &[u32] = match choice {
        DeviceChoice::Cpu => return Ok(None),
        DeviceChoice::Auto => &[0],
        DeviceChoice::Cuda(indices) => indices,
    };
    let mut engines: Vec<Box<dyn Engine>> = Vec::new();
    let mut architectures = Vec::new();
    for &index in indices {
        match CudaEngine::new(index, settings) {
            Ok(engine) => {
                notes.extend(engine.notes());
                architectures.push(engine.architecture());
                engines.push(Box::new(engine));
            }
            Err(
                why @ (Error::NoDevice(_)
                | Error::DeviceOutOfMemory(_)
                | Error::DeviceFailed(_)
                // There is less page-locked memory than the host has.
                | Error::OutOfMemory(_)),
            ) if *choice == DeviceChoice::Auto => {
                notes.push((LogLevel::Info, format!("device auto: using the CPU: {why}")));
                return Ok(None);
            }
            Err(Error::NoDevice(why)) => {
                return Err(Error::NoDevice(format!("{why}; use the device cpu or auto")));
            }
            Err(why) => return Err(why),
        }
    }
    architectures.dedup();
    if architectures.len() > 1 {
        let text = "GPUs of different architectures: the last bits of a slice depend on which one evaluates it";
        notes.push((LogLevel::Warning, text.into()));
    }
    Ok(Some(match engines.len() {
        1 => engines.remove(0),
        _ => Box::new(MultiGpu::new(engines)),
    }))
}

/// The engine on the CPU.
pub(crate) fn cpu(settings: &Settings<'_>) -> Result<Box<dyn Engine>, Error> {
    Ok(Box::new(CpuEngine::new(settings)?))
}
