//! The driver as a host program sees it: whether there is a GPU, how much of its memory is free, whose context is
//! current. Found without the library, so that a library that does not find the GPU fails instead of skipping.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use patchmask::Session;

use crate::cases::discs;
use crate::on_gpu;
use crate::support::{File, Random};

/// CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR.
const CAPABILITY_MAJOR: c_int = 75;
const CAPABILITY_MINOR: c_int = 76;
const MULTIPROCESSORS: c_int = 16;
/// The library has kernels from here on.
const LOWEST_MAJOR: c_int = 8;

/// GPU 0, whose primary context stays retained as long as the process lives.
pub struct Driver {
    library: usize,
    context: usize,
    pub name: String,
    /// (major, minor)
    pub capability: (i32, i32),
    pub multiprocessors: usize,
}

/// The GPU, while it is one test's.
pub struct Turn {
    _turn: MutexGuard<'static, ()>,
    driver: &'static Driver,
}

impl Deref for Turn {
    type Target = Driver;

    fn deref(&self) -> &Driver {
        self.driver
    }
}

/// Whether PATCHMASK_WITHOUT names this kernel.
pub fn is_left_out(kernel: &str) -> bool {
    let prefixes = std::env::var("PATCHMASK_WITHOUT").unwrap_or_default();
    prefixes.split(',').any(|prefix| !prefix.is_empty() && kernel.starts_with(prefix))
}

/// Opens the GPU through the library, once for all tests. Fails where a kernel is left out that was not asked to be, or where
/// the driver's compiler made wgmma wait after every product.
fn open_library() -> Result<(), String> {
    static OPENED: OnceLock<Result<Session, String>> = OnceLock::new();
    let opened = OPENED.get_or_init(|| {
        let mut said = Vec::new();
        let case = discs(&mut Random(1), (32, 16), (20, 17, 1));
        let model = File::new(safetensors::Dtype::F16, false, 1, 1, &[2]).load().map_err(|error| error.to_string())?;
        let began = Instant::now();
        let session = Session::new(&model, on_gpu(&case), &mut |_, text| said.push(text.to_owned()));
        println!("the library's first session: {:.0?}", began.elapsed());
        let session = session.map_err(|error| error.to_string())?;
        said.retain(|text| {
            (text.contains("left out") && !text.contains("PATCHMASK_WITHOUT")) || text.contains("serialized")
        });
        if said.is_empty() { Ok(session) } else { Err(said.join("\n")) }
    });
    opened.as_ref().map(|_| ()).map_err(Clone::clone)
}

/// The GPU, for one test at a time; `None`, with the reason printed, where there is none.
pub fn take() -> Option<Turn> {
    static TURN: Mutex<()> = Mutex::new(());
    static DRIVER: OnceLock<Result<Driver, String>> = OnceLock::new();
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    match DRIVER.get_or_init(Driver::open) {
        Ok(driver) => match open_library() {
            Ok(()) => Some(Turn { _turn: turn, driver }),
            Err(why) => panic!("KERNELS LEFT OUT:\n{why}"),
        },
        Err(why) => {
            let required = std::env::var("PATCHMASK_REQUIRE_CUDA").is_ok_and(|value| value == "1");
            assert!(!required, "PATCHMASK_REQUIRE_CUDA=1: {why}");
            println!("SKIPPED: {why}");
            None
        }
    }
}

macro_rules! call {
    ($library:expr, $name:literal, ($($argument:expr => $type:ty),*)) => {{
        // SAFETY: the driver exports it with this signature, and pointers are to locals.
        let status = unsafe {
            let symbol = libc::dlsym($library as *mut c_void, concat!($name, "\0").as_ptr().cast());
            if symbol.is_null() {
                return Err(format!("the driver lacks {}", $name));
            }
            let function: unsafe extern "C" fn($($type),*) -> c_int = std::mem::transmute(symbol);
            function($($argument),*)
        };
        if status == 0 { Ok(()) } else { Err(format!("{}: CUDA error {status}", $name)) }
    }};
}

pub(crate) use call;

impl Driver {
    fn open() -> Result<Self, String> {
        let file = CString::new("libcuda.so.1").unwrap();
        // SAFETY: a driver's initialisers do no harm.
        let library = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        if library.is_null() {
            return Err("no CUDA driver (libcuda.so.1)".into());
        }
        let library = library as usize;
        call!(library, "cuInit", (0 => u32))?;
        let mut device = 0;
        call!(library, "cuDeviceGet", (&raw mut device => *mut c_int, 0 => c_int))?;
        let attribute = |attribute: c_int| {
            let mut value = 0;
            call!(library, "cuDeviceGetAttribute",
                (&raw mut value => *mut c_int, attribute => c_int, device => c_int))?;
            Ok::<c_int, String>(value)
        };
        let major = attribute(CAPABILITY_MAJOR)?;
        if major < LOWEST_MAJOR {
            return Err(format!("GPU 0 has compute capability {major}.x, below {LOWEST_MAJOR}.0"));
        }
        let mut name: [c_char; 256] = [0; 256];
        call!(library, "cuDeviceGetName",
            (name.as_mut_ptr() => *mut c_char, 256 => c_int, device => c_int))?;
        let mut context = 0;
        call!(library, "cuDevicePrimaryCtxRetain",
            (&raw mut context => *mut usize, device => c_int))?;
        // SAFETY: the driver ends the text within the buffer.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) };
        Ok(Self {
            library,
            context,
            name: name.to_string_lossy().into_owned(),
            capability: (major, attribute(CAPABILITY_MINOR)?),
            multiprocessors: attribute(MULTIPROCESSORS)? as usize,
        })
    }

    /// Bytes of device memory that no program holds.
    pub fn free_bytes(&self) -> usize {
        self.try_free_bytes().unwrap()
    }

    fn try_free_bytes(&self) -> Result<usize, String> {
        let (mut free, mut total, mut popped) = (0, 0, 0);
        call!(self.library, "cuCtxPushCurrent_v2", (self.context => usize))?;
        let status = call!(self.library, "cuMemGetInfo_v2",
            (&raw mut free => *mut usize, &raw mut total => *mut usize));
        call!(self.library, "cuCtxPopCurrent_v2", (&raw mut popped => *mut usize))?;
        status.map(|()| free)
    }

    /// The context that is current on this thread, 0 if none.
    pub fn current_context(&self) -> usize {
        let current = || {
            let mut context = 0;
            call!(self.library, "cuCtxGetCurrent", (&raw mut context => *mut usize))?;
            Ok::<usize, String>(context)
        };
        current().unwrap()
    }

    /// Makes the primary context current on this thread until the end of `work`.
    pub fn within<T>(&self, work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        let mut popped = 0;
        call!(self.library, "cuCtxPushCurrent_v2", (self.context => usize))?;
        let outcome = work();
        call!(self.library, "cuCtxPopCurrent_v2", (&raw mut popped => *mut usize))?;
        outcome
    }

    /// Makes a context of its own, leaves it current during `work`, and destroys it.
    pub fn within_own_context<T>(&self, work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        let (mut context, mut popped) = (0, 0);
        call!(self.library, "cuCtxCreate_v2", (&raw mut context => *mut usize, 0 => u32, 0 => c_int))?;
        let outcome = work();
        call!(self.library, "cuCtxPopCurrent_v2", (&raw mut popped => *mut usize))?;
        // Reports the context's error, if it has one.
        let _ = call!(self.library, "cuCtxDestroy_v2", (context => usize));
        outcome
    }

    /// For `call!`.
    pub fn library(&self) -> usize {
        self.library
    }

    // What only the fake driver can do or tell, for tests that run on both.

    /// The hardware has an order of its own.
    pub fn completion(&self, _mode: i32, _seed: u64) {}

    /// compute-sanitizer tells (tests/gpu/run.sh).
    pub fn error(&self) -> String {
        String::new()
    }

    /// tests/gpu/memory.rs and compute-sanitizer tell.
    pub fn live(&self, _kind: &str) -> u64 {
        0
    }
}
