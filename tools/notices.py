"""Writes THIRD-PARTY-NOTICES.txt: the crates that are linked into the library, with their licences.

    python3 tools/notices.py            needs cargo; reads the licence files of the crates' sources
"""

import json
import subprocess
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "cargo metadata --format-version 1 --all-features --locked --filter-platform x86_64-unknown-linux-gnu"


def linked_packages():
    """Packages that the library links: normal dependencies, followed from the root."""
    metadata = json.loads(subprocess.run(COMMAND.split(), cwd=ROOT, check=True, capture_output=True).stdout)
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    seen, todo = set(), [metadata["resolve"]["root"]]
    while todo:
        normal = {
            dependency["pkg"]
            for dependency in nodes[todo.pop()]["deps"]
            if any(kind["kind"] is None for kind in dependency["dep_kinds"])
        }
        todo += normal - seen
        seen |= normal
    packages = (package for package in metadata["packages"] if package["id"] in seen)
    return sorted(packages, key=lambda package: (package["name"], package["version"]))


def licences(package):
    """The licence texts of a crate; of several alternatives the MIT one."""
    folder, names = Path(package["manifest_path"]).parent, ("LICENSE", "LICENCE", "COPYING", "NOTICE")
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name.upper().startswith(names))
    chosen = [file for file in files if "MIT" in file.name.upper()] or files
    return [file.read_text(errors="replace").strip() for file in chosen]


if __name__ == "__main__":
    users = defaultdict(set)
    lines = ["patchmask links the following Rust crates.", ""]
    for crate in linked_packages():
        lines.append(f"{crate['name']} {crate['version']}: {crate['license']}")
        for licence in licences(crate):
            users[licence].add(crate["name"])
    for licence, crates in sorted(users.items(), key=lambda item: sorted(item[1])):
        lines += ["", "-" * 80, ", ".join(sorted(crates)), "-" * 80, "", licence]
    (ROOT / "THIRD-PARTY-NOTICES.txt").write_text("\n".join(lines) + "\n")
