"""Runs what a page of docs/ tells its readers to type.

    python3 tests/docs/page.py docs/itk.md

Every block fenced as ```sh is run by `bash -e` from the repository's root, in order. What a page means for another
machine, such as a path inside 3D Slicer, is fenced as ```text."""

import re
import subprocess
import sys

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(path):
    with open(path, encoding="utf-8") as file:
        return BLOCK.findall(file.read())


def main(path):
    found = blocks(path)
    if not found:
        sys.exit(f"{path}: has no ```sh block")
    for block in found:
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", block], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{path}: exit status {done.returncode} of\n{block}\n{done.stdout}{done.stderr}")
    print(f"ok {path}: {len(found)} blocks")


if __name__ == "__main__":
    main(sys.argv[1])
