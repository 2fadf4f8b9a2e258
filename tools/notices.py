"""Writes THIRD-PARTY-NOTICES.txt: the crates that are linked into the library, with their licences.

    python3 tools/notices.py            needs cargo; reads the licence files of the crates' sources
"""

import json
import subprocess
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = "x86_64-unknown-linux-gnu"


def linked_packages():
    """Packages that the library links: normal dependencies, followed from the root."""
    command = ["cargo", "metadata", "--format-version", "1", "--all-features", "--locked", "--filter-platform", TARGET]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    seen, todo = set(), [root]
    while todo:
        for dependency in nodes[todo.pop()]["deps"]:
            normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if normal and dependency["pkg"] not in seen:
                seen.add(dependency["pkg"])
                todo.append(dependency["pkg"])
    return sorted((packages[key] for key in seen), key=lambda package: package["name"])


def licence_files(package):
    """The licence texts of a crate; of several alternatives the MIT one."""
    folder = Path(package["manifest_path"]).parent
    files = [
        file
        for file in sorted(folder.iterdir())
        if file.is_file() and file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE"))
    ]
    mit = [file for file in files if "MIT" in file.name.upper()]
    return mit or files


def main():
    users = defaultdict(list)
    lines = ["patchmask links the following Rust crates.", ""]
    for package in linked_packages():
        lines.append(f"{package['name']} {package['version']}: {package['license']}")
        for file in licence_files(package):
            users[file.read_text(errors="replace").strip()].append(package["name"])
    for text, names in sorted(users.items(), key=lambda item: item[1]):
        lines += ["", "-" * 80, ", ".join(sorted(set(names))), "-" * 80, "", text]
    (ROOT / "THIRD-PARTY-NOTICES.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
