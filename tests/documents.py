"""The commands of README and docs, as a shell would read them: variables and loops are expanded, nothing is run."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Whatever is called prints its words; what is no command of these is an error of the document.
PRELUDE = """
set -eu
shopt -u nullglob
say() { printf '%s\\0' "$@"; printf '\\n\\0'; }
deitkit() { say deitkit "$@"; }
git() { :; }
make() { :; }
python() { :; }
pip() { :; }
cd() { :; }
"""


@cache
def commands() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(document, the words of a deitkit command), in order; a command that stands twice comes once.

    Raises:
        AssertionError: a block is no shell script.
    """
    found = {}
    for path in DOCUMENTS:
        for block in BLOCK.findall(path.read_text()):
            script = PRELUDE + block.replace("<this repository>", "REPOSITORY")
            done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, f"{path.name}: {done.stderr}\n{block}"
            for words in done.stdout.split("\n\0")[:-1]:
                found[tuple(words.split("\0")[:-1])] = path.name
    return tuple((name, words) for words, name in found.items())
