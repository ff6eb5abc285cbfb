"""Words of earlier versions that readers did not understand do not come back."""

import re

from helpers.paths import ROOT

FORBIDDEN = re.compile(r"footing|whose|fruitless|our_products|by_rows|\brooms?\b")
# The old names of settings and modules, and what was written when they were in use.
ALLOWED = ("aliases", "test_old_names", "test_words", "LOG.md", "_generated", "_build")


def test_private_words_do_not_come_back():
    files = [ROOT / "README.md"]
    for folder in ("recbole_lightgnn", "properties", "docs", "tests", "examples"):
        for suffix in ("py", "yaml", "md"):
            files += (ROOT / folder).rglob(f"*.{suffix}")
    read = [file for file in files if not any(part in str(file) for part in ALLOWED)]
    assert len(read) > 400
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in read
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if FORBIDDEN.search(line)
    ]
    assert found == []
