//! The C++ compiler, for tests that run the kernels on the host. What it makes is kept until a source changes.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

/// The source tree.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The compiler's name (`CXX`, else `c++`), or why there is none.
pub fn compiler() -> Result<&'static str, String> {
    Ok(&found()?.0)
}

/// Its name and what it says of its version.
fn found() -> Result<&'static (String, Vec<u8>), String> {
    static FOUND: OnceLock<Result<(String, Vec<u8>), String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let name = env::var("CXX").unwrap_or_else(|_| "c++".into());
        match Command::new(&name).arg("--version").output() {
            Ok(output) if output.status.success() => Ok((name, output.stdout)),
            Ok(output) => Err(format!("no C++ compiler ({name}: {})", output.status)),
            Err(error) => Err(format!("no C++ compiler ({name}: {error})")),
        }
    });
    found.as_ref().map_err(String::clone)
}

/// The sources `*_test.cc` of a folder.
pub fn test_sources(folder: &str) -> Vec<String> {
    let names = fs::read_dir(root().join(folder)).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let paths = names.map(|name| format!("{folder}/{}", name.to_str().expect("a name")));
    let mut sources: Vec<String> = paths.filter(|path| path.ends_with("_test.cc")).collect();
    sources.sort();
    sources
}

/// Runs a compiler in the source tree; its messages where it fails.
pub fn succeed(command: &mut Command) -> Result<(), String> {
    let output = (command.current_dir(root()).output()).map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        let text = String::from_utf8_lossy(&output.stderr);
        Err(format!("{command:?}:\n{text}"))
    }
}

/// The path of file `name`, which `make` writes to the path that it is given, unless that was done before from the
/// same sources with the same `arguments`.
pub fn kept(name: &str, arguments: &[&str], make: impl FnOnce(&Path) -> Result<(), String>) -> Result<PathBuf, String> {
    let mut key = DefaultHasher::new();
    arguments.hash(&mut key);
    let folder = of_sources()?.join(format!("{name}-{:016x}", key.finish()));
    let path = folder.join(name);
    if !path.exists() {
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        // Others may be at it too: all of them make the same, and each puts it in place at once.
        let new = folder.join(format!("{name}.{}", std::process::id()));
        make(&new)?;
        fs::rename(&new, &path).map_err(|error| error.to_string())?;
    }
    Ok(path)
}

/// Versions of the sources of which it is kept what the compiler made.
const VERSIONS: usize = 3;

/// The folder of what the compiler makes of today's sources.
fn of_sources() -> Result<&'static Path, String> {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let key = sources_key()?;
    Ok(FOLDER.get_or_init(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cxx");
        let folder = all.join(format!("{key:016x}"));
        fs::create_dir_all(&folder).expect("a folder in target");
        let changed = |path: &PathBuf| fs::metadata(path).and_then(|data| data.modified()).ok();
        let mut versions: Vec<PathBuf> = (fs::read_dir(all).expect("a folder"))
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|version| *version != folder)
            .collect();
        versions.sort_by_key(|version| std::cmp::Reverse(changed(version)));
        for old in versions.iter().skip(VERSIONS - 1) {
            let _ = fs::remove_dir_all(old);
        }
        folder
    }))
}

/// A hash of the compiler's version and of every source that it may read.
fn sources_key() -> Result<u64, String> {
    static KEY: OnceLock<u64> = OnceLock::new();
    let compiler = found()?;
    Ok(*KEY.get_or_init(|| {
        let mut files = BTreeMap::new();
        for folder in ["kernels", "tests/kernels", "tests/fake_driver"] {
            read(&root().join(folder), &mut files);
        }
        let mut key = DefaultHasher::new();
        (compiler, files).hash(&mut key);
        key.finish()
    }))
}

/// All files below a folder.
fn read(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read(&path, files);
        } else {
            let bytes = fs::read(&path).expect("a source");
            files.insert(path, bytes);
        }
    }
}
