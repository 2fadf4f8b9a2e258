//! The committed C header is what cbindgen makes of `src/ffi` today.
//! `PATCHMASK_UPDATE_HEADER=1 cargo test --test header` rewrites it.

use std::path::Path;

#[test]
fn committed_header_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let mut generated = Vec::new();
    cbindgen::Builder::new()
        .with_config(config)
        .with_src(root.join("src/ffi/mod.rs"))
        .generate()
        .expect("cbindgen reads src/ffi")
        .write(&mut generated);
    let generated = String::from_utf8(generated).expect("UTF-8");
    let path = root.join("include/patchmask.h");
    if std::env::var_os("PATCHMASK_UPDATE_HEADER").is_some() {
        std::fs::write(&path, &generated).expect("include/patchmask.h is writable");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    for (line, (have, want)) in committed.lines().zip(generated.lines()).enumerate() {
        assert_eq!(have, want, "include/patchmask.h line {}", line + 1);
    }
    assert_eq!(committed.lines().count(), generated.lines().count(), "length");
}
