"""Runs what a page of docs/ tells its readers to type.

    python3 tests/docs/page.py docs/itk.md

In order: a block fenced as ```sh is run by bash from the repository's root; a block that follows a file's name and a colon
(`examples/c/organ.c`:) must stand in that file, letter by letter. What a page means for another machine, such as a path
inside 3D Slicer, is fenced as ```text."""

import re
import subprocess
import sys

BLOCK = re.compile(r"(?:`([\w./]+)`:\n\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(path):
    """(file name or "", language, text) of each fenced block."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    found = BLOCK.findall(text)
    if len(found) != len(re.findall("^```", text, re.MULTILINE)) // 2:
        sys.exit(f"{path}: a fenced block without a language, or without an end")
    return found


def run(path):
    """Number of command blocks on the page; exits at the first that fails."""
    count = 0
    for name, language, text in blocks(path):
        if name:
            with open(name, encoding="utf-8") as file:
                if text not in file.read():
                    sys.exit(f"{path}: {name} does not have\n{text}")
        elif language == "sh":
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(f"{path}: exit status {done.returncode} of\n{text}\n{done.stdout}{done.stderr}")
            count += 1
    if not count:
        sys.exit(f"{path}: no block fenced as sh")
    return count


if __name__ == "__main__":
    for page in sys.argv[1:]:
        print(f"ok {page}: {run(page)} blocks")
