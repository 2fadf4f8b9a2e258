"""Every file that a page names is there: links, and paths in `code`.

    python3 tests/docs/links.py
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [page for pattern in ("*.md", "*/*.md", "*/*/*.md") for page in ROOT.glob(pattern)]
OUTSIDE = ("build/", "target/", ".")  # not in the repository, or hidden
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^():#\s]+)(?:#[^)]*)?\)")
FOLDERS = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ("build", "target"))
NAMED = re.compile(rf"`((?:{FOLDERS})/[\w./*-]*)`")


def missing(page):
    """Files that `page` names and the repository lacks."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    for path in LINK.findall(text):
        if not (page.parent / path).exists():
            yield path
    for path in NAMED.findall(text):
        if not any(ROOT.glob(path.rstrip("/"))):
            yield path


if __name__ == "__main__":
    pages = [page for page in PAGES if not str(page.relative_to(ROOT)).startswith(OUTSIDE)]
    lacking = [f"{page.relative_to(ROOT)}: no {path}" for page in pages for path in missing(page)]
    if lacking or not pages:
        sys.exit("\n".join(lacking or ["no pages"]))
    print(f"ok the files that {len(pages)} pages name")
