//! Memory that this process may still touch: what its control groups leave it (containers, batch jobs; both versions), and what the
//! machine has. Linux grants address space beyond that, and ends the process that touches it. Elsewhere the files are not
//! there, and nothing is known.

use std::fs;
use std::path::{Path, PathBuf};

/// The least limit of the groups that this process is in, in bytes.
pub(super) fn group_limit() -> Option<u64> {
    own_groups(&Root::system()).iter().filter_map(Group::limit).min()
}

/// The bytes left, and what they are left of.
pub(super) fn bytes_left() -> Option<(u64, &'static str)> {
    least_left(&Root::system())
}

/// Where the files are.
struct Root {
    proc: PathBuf,
    groups: PathBuf,
}

impl Root {
    fn system() -> Self {
        Self { proc: "/proc".into(), groups: "/sys/fs/cgroup".into() }
    }
}

struct Group {
    folder: PathBuf,
    files: &'static Files,
}

/// The names of one version.
struct Files {
    limit: &'static str,
    usage: &'static str,
    /// In memory.stat: counted in the usage, and given up before a process is ended.
    reclaimable: [&'static str; 3],
}

static VERSION_1: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: ["total_inactive_file", "total_active_file", ""],
};
static VERSION_2: Files = Files {
    limit: "memory.max",
    usage: "memory.current",
    reclaimable: ["inactive_file", "active_file", "slab_reclaimable"],
};

impl Group {
    /// None for "max".
    fn limit(&self) -> Option<u64> {
        number(&self.folder.join(self.files.limit))
    }

    fn left(&self) -> Option<u64> {
        let limit = self.limit()?;
        let usage = number(&self.folder.join(self.files.usage))?;
        let stat = fs::read_to_string(self.folder.join("memory.stat")).unwrap_or_default();
        let reclaimable: u64 = self.files.reclaimable.iter().filter_map(|name| entry(&stat, name)).sum();
        Some(limit.saturating_sub(usage.saturating_sub(reclaimable)))
    }
}

/// The groups that this process is in, those above them too: a limit holds for everything below. In a container the paths may
/// be those of the host, and the root that of the container.
fn own_groups(root: &Root) -> Vec<Group> {
    let lines = fs::read_to_string(root.proc.join("self/cgroup")).unwrap_or_default();
    let mut groups = Vec::new();
    // NUMBER:CONTROLLERS:PATH; no controllers in version 2.
    for line in lines.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (base, files) = if controllers.is_empty() {
            (root.groups.clone(), &VERSION_2)
        } else if controllers.split(',').any(|one| one == "memory") {
            (root.groups.join("memory"), &VERSION_1)
        } else {
            continue;
        };
        let above = Path::new(path.trim_start_matches('/')).ancestors();
        groups.extend(above.map(|group| Group { folder: base.join(group), files }));
    }
    groups
}

fn least_left(root: &Root) -> Option<(u64, &'static str)> {
    let groups = own_groups(root);
    let in_groups = groups.iter().filter_map(Group::left).map(|bytes| (bytes, "the control group's limit"));
    let memory = fs::read_to_string(root.proc.join("meminfo")).unwrap_or_default();
    let on_machine = entry(&memory, "MemAvailable:").map(|kib| {
        let swap = entry(&memory, "SwapFree:").unwrap_or(0);
        (kib.saturating_add(swap).saturating_mul(1024), "the machine's memory")
    });
    in_groups.chain(on_machine).min()
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The number behind `name` in lines "NAME NUMBER ...".
fn entry(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        if words.next()? == name { words.next()?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_all_groups_above_and_the_machine() {
        let folder = std::env::temp_dir().join(format!("patchmask-groups-{}", std::process::id()));
        let root = Root { proc: folder.join("proc"), groups: folder.join("groups") };
        let write = |file: &str, text: &str| {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("groups/slurm/job_7/memory.max", "8589934592\n");
        write("groups/slurm/job_7/memory.current", "8589930000\n");
        write("groups/slurm/job_7/memory.stat", "anon 5\ninactive_file 1000\nactive_file 20\nslab_reclaimable 3\n");
        write("groups/slurm/job_7/step_0/memory.max", "max\n");
        write("groups/memory/memory.limit_in_bytes", "9223372036854771712\n");
        write("groups/memory/docker/ab/memory.limit_in_bytes", "1073741824\n");
        write("groups/memory/docker/ab/memory.usage_in_bytes", "2000000000\n");
        let of = |groups: &str| {
            write("proc/self/cgroup", groups);
            let limit = own_groups(&root).iter().filter_map(Group::limit).min();
            (limit, least_left(&root).map(|(bytes, _)| bytes))
        };
        assert_eq!(of("0::/slurm/job_7/step_0\n"), (Some(8 << 30), Some(4592 + 1023)));
        assert_eq!(of("0::/slurm\n"), (None, None));
        assert_eq!(of("4:cpu,memory:/docker/ab\n3:pids:/\n"), (Some(1 << 30), Some(0)));
        // The host's path in a container: what counts is the root that it sees.
        assert_eq!(of("4:memory:/elsewhere\n0::/\n").0, Some(9223372036854771712));
        write("proc/meminfo", "MemTotal: 9 kB\nMemAvailable:   5 kB\nSwapFree:  1 kB\n");
        assert_eq!(of("0::/slurm/job_7\n").1, Some(4592 + 1023));
        assert_eq!(of("0::/slurm\n").1, Some(6 * 1024));
        for odd in ["", "0::", "memory", "::", "4:memory", "0:://..//\n"] {
            of(odd);
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
