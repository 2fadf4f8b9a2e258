//! Gives the shared library its SONAME: `libpatchmask.so.MAJOR.MINOR` while the major version is 0.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let linux = std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux");
    // cargo-c sets a SONAME of its own.
    let cargo_c = std::env::var_os("CARGO_FEATURE_CAPI").is_some();
    if linux {
        // Threads may still be ending in its code, and thread keys point to it.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
    if linux && !cargo_c {
        let major = env!("CARGO_PKG_VERSION_MAJOR");
        let minor = env!("CARGO_PKG_VERSION_MINOR");
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libpatchmask.so.{major}.{minor}");
    }
}
