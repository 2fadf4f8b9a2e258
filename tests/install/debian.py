"""Packages of Debian's in a folder, without root and without a word to this system's own."""

import subprocess


def unpacked(folder, suite, *packages, architecture=None):
    """The packages and what they depend on, in `folder`/root; None: they cannot be had. Without an architecture: this system's."""
    (folder / "sources").write_text(f"deb http://deb.debian.org/debian {suite} main\n")
    for name in ("lists/partial", "cache", "root"):
        (folder / name).mkdir(parents=True)
    options = {"Dir::Etc::SourceList": "sources", "Dir::State::Lists": "lists", "Dir::Cache": "cache"}
    words = [f"-o{name}={folder}/{value}" for name, value in options.items()]
    words += ["-oDir::Etc::SourceParts=/dev/null", "-oDir::State::Status=/dev/null", "-oAPT::Sandbox::User=root", "-oDebug::NoLocking=1"]
    if architecture:
        words += [f"-oAPT::Architecture={architecture}", f"-oAPT::Architectures={architecture}"]
    for command in (["update"], ["install", "--yes", "--download-only", "--no-install-recommends", *packages]):
        if subprocess.run(["apt-get", "-qq", *words, *command], stdout=subprocess.DEVNULL, check=False).returncode != 0:
            return None
    for package in (folder / "cache/archives").glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder / "root"], check=True)
    return folder / "root"
