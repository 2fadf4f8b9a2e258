//! One error type for the whole library. Texts name the value, the limit and the remedy.

use std::fmt;

/// Why a call failed. Each variant is one status number of the C interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// A size, option or buffer is not usable.
    InvalidArgument(String),
    /// A valid request that this version or build does not offer.
    Unsupported(String),
    /// The session is already running a call.
    Busy,
    /// The session was made by the parent process, before `fork`.
    WrongProcess,
    /// The model file could not be read.
    Io(String),
    /// The model file is not a usable VGG16.
    BadModel(String),
    /// Memory could not be allocated, or the budget is too small.
    OutOfMemory(String),
    /// Device memory could not be allocated, or the budget is too small for it.
    DeviceOutOfMemory(String),
    /// The requested device is not there or not usable.
    NoDevice(String),
    /// The device failed in the middle of its work.
    DeviceFailed(String),
    /// The call was cancelled.
    Cancelled,
    /// A defect in the library.
    Panic(String),
}

impl Error {
    pub(crate) fn invalid(text: String) -> Self {
        Self::InvalidArgument(text)
    }

    pub(crate) fn bad_model(text: String) -> Self {
        Self::BadModel(text)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidArgument(text)
            | Self::Unsupported(text)
            | Self::Io(text)
            | Self::BadModel(text)
            | Self::OutOfMemory(text)
            | Self::DeviceOutOfMemory(text)
            | Self::NoDevice(text)
            | Self::DeviceFailed(text)
            | Self::Panic(text) => f.write_str(text),
            Self::Busy => {
                f.write_str("the session is already running a call: wait for it, or use one session per thread")
            }
            Self::WrongProcess => {
                f.write_str("the session was made before fork() by the parent process: make a new one here")
            }
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl std::error::Error for Error {}
