//! The fake CUDA driver: compiled, and loaded before the library looks for the real one.

use std::env;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ops::Deref;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::cxx;

/// `libcuda.so.1` with the project's kernels, `libcuda.so` beside it; or why there is no compiler.
pub fn build() -> Result<PathBuf, String> {
    compile(&["-Ikernels", "tests/kernels/registry.cc", "tests/kernels/shim.cc"])
}

/// The same with the kernels of its self-test.
pub fn build_for_self_test() -> Result<PathBuf, String> {
    compile(&["tests/fake_driver/test/kernels.cc"])
}

fn compile(arguments: &[&str]) -> Result<PathBuf, String> {
    let cxx = cxx::compiler()?;
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let library = cxx::kept("libcuda.so.1", arguments, |library| {
        cxx::succeed(Command::new(cxx).arg("@tests/fake_driver/flags").args(arguments).arg("-o").arg(library))
    });
    let library = library.expect("the fake driver compiles");
    let _ = symlink("libcuda.so.1", library.with_file_name("libcuda.so"));
    Ok(library)
}

/// The functions of `tests/fake_driver/control.h`.
pub struct FakeDriver {
    handle: usize,
}

/// The fake driver, for one test. At its end nothing may be live, and nothing may have gone wrong.
pub struct Turn(&'static FakeDriver);

impl Deref for Turn {
    type Target = FakeDriver;

    fn deref(&self) -> &FakeDriver {
        self.0
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!((self.live(""), self.error().as_str()), (0, ""), "what the test has left");
        }
    }
}

/// In the environment of a process that runs one test.
const ALONE: &str = "PATCHMASK_TEST_ALONE";

/// The fake driver, with a default machine, for one test.
///
/// A process has one driver, and tests run side by side: the first process has each test run by one of its own, and
/// gets `None`. So do all, with the reason printed, where the fake driver cannot be compiled.
pub fn take() -> Option<Turn> {
    let library = match build() {
        Ok(library) => library,
        Err(why) => {
            println!("SKIPPED CUDA on the fake driver: {why}");
            return None;
        }
    };
    let thread = std::thread::current();
    let name = thread.name().expect("the test's name");
    // The main thread runs the tests if they come one after another (--test-threads=1).
    if env::var_os(ALONE).is_none() && name != "main" {
        run_alone(name);
        return None;
    }
    static LOADED: OnceLock<FakeDriver> = OnceLock::new();
    let fake_driver = LOADED.get_or_init(|| {
        let path = CString::new(library.to_str().unwrap()).unwrap();
        // SAFETY: a library of our own, whose initialisers only read the environment.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        assert!(!handle.is_null(), "{} does not load", library.display());
        FakeDriver { handle: handle as usize }
    });
    fake_driver.reset();
    Some(Turn(fake_driver))
}

/// Runs a test in a process of its own; panics where it fails there.
fn run_alone(name: &str) {
    let output = test_program(name).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{name}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// This test program, for the test `name` alone.
pub fn test_program(name: &str) -> Command {
    let mut program = Command::new(env::current_exe().unwrap());
    program.args([name, "--exact", "--include-ignored", "--nocapture"]);
    program.arg("--test-threads=1");
    program
}

/// Calls a function of a library by its name.
macro_rules! call {
    ($library:expr, $name:literal, ($($argument:expr => $type:ty),*) $(-> $result:ty)?) => {{
        // SAFETY: the library exports it with this signature, and pointers are to what outlives the call.
        unsafe {
            let symbol = libc::dlsym($library as *mut std::ffi::c_void, concat!($name, "\0").as_ptr().cast());
            assert!(!symbol.is_null(), "the driver lacks {}", $name);
            let function: unsafe extern "C" fn($($type),*) $(-> $result)? = std::mem::transmute(symbol);
            function($($argument),*)
        }
    }};
}
/// Calls a function of the driver that must succeed.
macro_rules! succeed {
    ($driver:expr, $name:literal, ($($argument:expr => $type:ty),*)) => {
        assert_eq!(
            $crate::support::fake_driver::call!(
                $driver.library(), $name, ($($argument => $type),*) -> std::ffi::c_int
            ),
            0,
            $name
        )
    };
}

pub(crate) use {call, succeed};

/// How a kernel goes wrong; see control.h.
#[derive(Clone, Copy)]
pub enum Fault {
    Wrong = 1,
    Traps = 2,
    Unloadable = 4,
}

impl FakeDriver {
    /// The handle that `call!` takes.
    pub fn library(&self) -> usize {
        self.handle
    }

    /// Forgets faults and counts; the default machine again. Returns how many objects are still live.
    pub fn reset(&self) -> u64 {
        let live = call!(self.handle, "fake_driver_reset", () -> u64);
        // The library initialises the driver once in a process, and a reset undoes that.
        succeed!(self, "cuInit", (0 => u32));
        live
    }

    pub fn devices(&self, count: i32, memory_bytes: u64) {
        self.machine(count, memory_bytes, 163 << 10);
    }

    /// Devices with so much memory, and so much shared memory for a block, in bytes.
    pub fn machine(&self, count: i32, memory_bytes: u64, shared_bytes: u64) {
        self.machine_of((8, 0), count, memory_bytes, shared_bytes);
    }

    /// One device of Hopper's kind.
    pub fn hopper(&self) {
        self.machine_of((9, 0), 1, 1 << 30, 227 << 10);
    }

    /// The same with devices of this capability, (major, minor).
    pub fn machine_of(&self, (major, minor): (i32, i32), count: i32, memory_bytes: u64, shared_bytes: u64) {
        call!(self.handle, "fake_driver_devices",
            (count => c_int, major => c_int, minor => c_int, memory_bytes => u64, shared_bytes => u64));
    }

    /// The `nth` call of `call` from now on fails with this CUDA error, once.
    pub fn fail(&self, call: &str, nth: u64, error: i32) {
        let call = CString::new(call).unwrap();
        call!(self.handle, "fake_driver_fail", (call.as_ptr() => *const c_char, nth => u64, error => c_int));
    }

    /// The kernel of this name does nothing from now on.
    pub fn spoil(&self, kernel: &str) {
        self.spoil_with(kernel, Fault::Wrong);
    }

    /// The kernel of this name goes wrong in this way from now on.
    pub fn spoil_with(&self, kernel: &str, fault: Fault) {
        let kernel = CString::new(kernel).unwrap();
        call!(self.handle, "fake_driver_spoil", (kernel.as_ptr() => *const c_char, fault as c_int => c_int));
    }

    /// The device is gone after so many more kernel runs.
    pub fn lose(&self, device: i32, after_launches: u64) {
        call!(self.handle, "fake_driver_lose_device", (device => c_int, after_launches => u64));
    }

    /// When work runs: 0 eager, 1 lazy, 2 random.
    pub fn completion(&self, mode: i32, seed: u64) {
        call!(self.handle, "fake_driver_completion", (mode => c_int, seed => u64));
    }

    /// Calls of this function so far.
    pub fn calls(&self, call: &str) -> u64 {
        let call = CString::new(call).unwrap();
        call!(self.handle, "fake_driver_calls", (call.as_ptr() => *const c_char) -> u64)
    }

    /// Live objects of this kind; "": all.
    pub fn live(&self, kind: &str) -> u64 {
        let kind = CString::new(kind).unwrap();
        call!(self.handle, "fake_driver_live", (kind.as_ptr() => *const c_char) -> u64)
    }

    /// The first thing that went wrong, or "".
    pub fn error(&self) -> String {
        let error = call!(self.handle, "fake_driver_error", () -> *const c_char);
        // SAFETY: a text that stays until the next call.
        unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned()
    }

    /// Makes a context of device 0 and leaves it current on this thread.
    pub fn make_context(&self) -> usize {
        let mut context = 0;
        succeed!(self, "cuCtxCreate_v2", (&raw mut context => *mut usize, 0 => u32, 0 => c_int));
        context
    }

    /// The context that is current on this thread.
    pub fn current_context(&self) -> usize {
        let mut context = 0;
        succeed!(self, "cuCtxGetCurrent", (&raw mut context => *mut usize));
        context
    }

    pub fn destroy_context(&self, context: usize) {
        succeed!(self, "cuCtxDestroy_v2", (context => usize));
    }
}
