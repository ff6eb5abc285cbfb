"""The code blocks of a Markdown page: find them, and run them as a reader would.

- A ``console`` block has commands after ``$ `` and, below them, lines of their output.
- A ``python`` block is executed; a ``text`` block right after it shows lines of its output.
- A block of any language with a file name as its first line (``# folder/name.ext``) is that file.
- A block right after ``% not run: REASON`` or ``<!-- not run: REASON -->`` is only shown.

Shown lines must occur in the output, in their order. Numbers and bold type may differ; ``...``
stands for any text.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FENCE = re.compile(r"^```(\w+)\s*$")
_NOT_RUN = re.compile(r"^(?:% not run: *(.*?)|<!-- not run: *(.*?) *-->)\s*$")
_FILE = re.compile(r"^# ([\w./-]+\.\w+)$")
_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?![\d,])|\d[\d.:e+-]*\d|\d")


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    Attributes:
        language: language of the block, such as ``console``.
        lines: lines of the block.
        place: file and line, for messages.
        reason: why it is not run; empty if no reason is given; ``None`` if it is run.
        shown: lines of output that a ``text`` block after it shows.
    """

    language: str
    lines: tuple[str, ...]
    place: str
    reason: str | None
    shown: tuple[str, ...] = ()

    @property
    def file(self) -> str | None:
        """Name of the file that the block shows, or ``None``."""
        match = _FILE.match(self.lines[0]) if self.lines else None
        return match[1] if match else None


def blocks_of(page: Path) -> list[Block]:
    """The code blocks of a page, in order; ``text`` blocks belong to the block before them."""
    lines = page.read_text(encoding="utf-8").splitlines()
    found: list[Block] = []
    at, after_block = 0, False
    while at < len(lines):
        match = _FENCE.match(lines[at])
        if match is None:
            after_block = after_block and not lines[at].strip()
            at += 1
            continue
        end = next(n for n in range(at + 1, len(lines)) if lines[n].rstrip() == "```")
        content = tuple(lines[at + 1 : end])
        if match[1] == "text":
            if after_block and found[-1].language == "python":
                found[-1] = Block(**{**vars(found[-1]), "shown": content})
        else:
            place = f"{page.name}:{at + 1}"
            found.append(Block(match[1], content, place, _reason(lines[:at])))
        at, after_block = end + 1, True
    return found


def _reason(before: Sequence[str]) -> str | None:
    match = _NOT_RUN.match(before[-1]) if before else None
    return (match[1] or match[2] or "").strip() if match else None


def command_environment(scripts: Path, checkout: Path) -> dict[str, str]:
    """Return environment variables with this interpreter's ``recbole-lightgnn`` and ``python``.

    Args:
        scripts: empty folder for the two commands.
        checkout: checkout from which they import the package.
    """
    for name, arguments in (("recbole-lightgnn", "-m recbole_lightgnn.cli.main"), ("python", "")):
        script = scripts / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        script.chmod(0o755)
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("PYTEST")},
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(checkout),
        "OMP_NUM_THREADS": "1",  # the data are small, and tests share the cores
    }


def run_block(
    block: Block, folder: Path, names: dict[str, Any], environment: Mapping[str, str]
) -> None:
    """Run a block, or write its file, and check the output that the page shows.

    Args:
        block: the block.
        folder: the folder to work in.
        names: global variables that all Python blocks of the page share.
        environment: environment variables of the commands.

    Raises:
        AssertionError: if a command fails, or if shown lines are not in the output.
    """
    if block.file:
        path = folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(block.lines) + "\n", encoding="utf-8")
    elif block.language == "console":
        for command, shown in _commands(block.lines):
            _run_command(command, shown, block.place, folder, environment)
    elif block.language == "python":
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile("\n".join(block.lines), block.place, "exec"), names)
        _check_shown(block.shown, output.getvalue(), block.place)


def _commands(lines: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console block, each with the output shown below it.

    A command in the background (``&``) and all commands after it are one, to share a shell.
    """
    command: list[str] = []
    shown: list[str] = []
    continued = False
    for line in lines:
        if line.startswith("$ "):
            if command and not command[0].endswith(" &"):
                yield "\n".join(command), shown
                command, shown = [], []
            command.append(line[2:])
        elif continued:
            command.append(line)
        else:
            shown.append(line)
        continued = (line.startswith("$ ") or continued) and line.endswith("\\")
    if command:
        yield "\n".join(command), shown


def _run_command(
    command: str, shown: Sequence[str], place: str, folder: Path, environment: Mapping[str, str]
) -> None:
    if " &\n" in command:
        command = f"trap 'kill $(jobs -p) 2> /dev/null' EXIT\n{command}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=300,
    )
    told = f"{place}: {command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert done.returncode == 0, f"exit status {done.returncode} of {told}"
    _check_shown(shown, done.stdout + done.stderr, told)


def _check_shown(shown: Sequence[str], output: str, told: str) -> None:
    lines = iter([_without_numbers(line) for line in output.splitlines()])
    for line in shown:
        if line.strip() in ("", "..."):
            continue
        parts = [re.escape(_without_numbers(part)) for part in line.split("...")]
        pattern = re.compile(r"\s*" + ".*".join(parts) + r"\s*")
        assert any(pattern.fullmatch(one) for one in lines), f"no line {line!r} in {told}"


def _without_numbers(text: str) -> str:
    return " ".join(_NUMBER.sub("0", text.replace("**", "")).split())
