//! A Rust program with an allocator and a thread-local value of its own that embeds the static library, and plug-ins that do
//! so too: `embedding MODEL [PLUGIN...]`. Compiled as the program, as a plug-in and as a static library of its own
//! (check.py). `example` is the main function of examples/c/minimal.c, which prints what
//! it counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

unsafe extern "C" {
    fn example(count: c_int, words: *const *const c_char);
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlclose(library: *mut c_void) -> c_int;
}

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: by contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: by contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Value;

impl Drop for Value {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Relaxed);
    }
}

thread_local! {
    static VALUE: Value = const { Value };
}

/// Segments, without this program's allocator. As `main` of the example.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plugin(count: c_int, words: *const *const c_char) {
    VALUE.with(|_| ());
    let before = ALLOCATIONS.load(Relaxed);
    // SAFETY: by contract.
    unsafe { example(count, words) };
    assert_eq!(ALLOCATIONS.load(Relaxed), before, "the library uses this program's allocator");
    assert!(std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new(1))).is_err());
}

/// Runs `work`, which uses the library, on a thread that ends then.
fn on_a_thread(work: impl FnOnce() + Send + 'static) {
    assert!(std::thread::spawn(work).join().is_ok());
}

pub fn main() {
    let words: Vec<_> = std::env::args().skip(1).map(|word| CString::new(word).expect("no zero")).collect();
    let (model, plugins) = words.split_first().expect("a model");
    let model = model.clone();
    let run = move |main: unsafe extern "C" fn(c_int, *const *const c_char)| {
        // SAFETY: two words.
        unsafe { main(2, [c"minimal".as_ptr(), model.as_ptr()].as_ptr()) };
    };
    let run_own = run.clone();
    on_a_thread(move || run_own(plugin));
    assert_eq!(DROPPED.load(Relaxed), 1, "a thread-local value of this program was not dropped");
    for path in plugins.iter().chain(plugins) {
        let (path, run) = (path.clone(), run.clone());
        // SAFETY: RTLD_NOW and RTLD_GLOBAL: what a plug-in exports is seen by the next. It exports `plugin`.
        on_a_thread(move || unsafe {
            let library = dlopen(path.as_ptr(), 0x102);
            assert!(!library.is_null(), "{path:?}");
            let symbol = dlsym(library, c"plugin".as_ptr());
            run(std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int, *const *const c_char)>(symbol));
            assert_eq!(dlclose(library), 0);
        });
    }
}
