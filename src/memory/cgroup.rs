//! The memory limit of a container or a batch job: Linux' control groups, both versions. Elsewhere the files are not
//! there, and there is no limit.

use std::fs;
use std::path::Path;

/// The least limit of the groups that this process is in, in bytes.
pub(crate) fn memory_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    least_limit(&groups, Path::new("/sys/fs/cgroup"))
}

/// `groups`: lines NUMBER:CONTROLLERS:PATH; no controllers in version 2. A group's limit holds for those below it. In a
/// container the paths may be those of the host, and the root that of the container.
fn least_limit(groups: &str, root: &Path) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (base, name) = if controllers.is_empty() {
            (root.to_path_buf(), "memory.max")
        } else if controllers.split(',').any(|one| one == "memory") {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            return None;
        };
        let read = |group: &Path| -> Option<u64> {
            let text = fs::read_to_string(base.join(group).join(name)).ok()?;
            text.trim().parse().ok() // "max": none
        };
        let own = Path::new(path.trim_start_matches('/'));
        own.ancestors().filter_map(read).min()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_all_groups_above() {
        let root = std::env::temp_dir().join(format!("patchmask-cgroup-{}", std::process::id()));
        let write = |file: &str, text: &str| {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("slurm/job_7/memory.max", "8589934592\n");
        write("slurm/job_7/step_0/memory.max", "max\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/docker/ab/memory.limit_in_bytes", "1073741824\n");
        let limit = |groups: &str| least_limit(groups, &root);
        assert_eq!(limit("0::/slurm/job_7/step_0\n"), Some(8 << 30));
        assert_eq!(limit("0::/slurm\n"), None);
        assert_eq!(limit("4:cpu,memory:/docker/ab\n3:pids:/\n"), Some(1 << 30));
        // The host's path in a container: what counts is the root that it sees.
        assert_eq!(limit("4:memory:/elsewhere\n0::/\n"), Some(9223372036854771712));
        for odd in ["", "0::", "memory", "::", "4:memory", "0:://..//\n"] {
            limit(odd);
        }
        fs::remove_dir_all(root).unwrap();
    }
}
