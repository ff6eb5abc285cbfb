"""Runs as processes of their own, some at a time: none takes another with it when it ends."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from recbole_lightgnn.comparison.layout import LOCK, Run
from recbole_lightgnn.comparison.progress import Progress
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.runs import checkpoint
from recbole_lightgnn.utils.files import read_json, write_json

Done = list[int]  # trainings finished of a run, and epochs of the one under way

_POLL_SECONDS = 0.2
_LAST_WORDS_SECONDS = 20  # for a run that is stopped by hand
_PATIENCE_SECONDS = 10  # for runs whose comparison was killed, and who are killed with it
_TAIL = 1 << 16
_PR_SET_PDEATHSIG = 1


def work(runs: Sequence[Run], jobs: int, lock: int, progress: Progress) -> None:
    """Do the runs, ``jobs`` at a time.

    Each leaves its record, or a file that says why it failed. A model with a run folder goes on
    where it was interrupted or has failed; if it fails again without an epoch more, it begins anew
    the next time.

    Args:
        runs: those that are not done.
        jobs: how many at a time; they share the cores.
        lock: descriptor of `at_work_in`, which runs hold too.
        progress: told of it.

    Raises:
        KeyboardInterrupt: when stopped by hand, after all runs have stopped.
    """
    waiting = list(runs)
    at_work: dict[Run, subprocess.Popen[bytes]] = {}
    after: dict[Run, Done | None] = {}
    try:
        while waiting or at_work:
            while waiting and len(at_work) < jobs:
                run = waiting.pop(0)
                after[run] = _prepare(run)
                resumed = after[run] is not None
                at_work[run] = _start(run, resumed, jobs, lock)
                progress.began(run, resumed)
            time.sleep(_POLL_SECONDS)
            for run, process in list(at_work.items()):
                if (status := process.poll()) is not None:
                    del at_work[run]
                    progress.ended(run, _note_failure(run, status, after[run]))
            progress.tick(list(at_work))
    finally:
        _stop(list(at_work.values()))


@contextmanager
def at_work_in(folder: Path) -> Iterator[int]:
    """A lock on a comparison's folder, held by this process and the runs that inherit it.

    Raises:
        InputError: if another comparison is at work there, or runs that outlived theirs.
    """
    with (folder / LOCK).open("ab") as file:
        patience = time.monotonic() + _PATIENCE_SECONDS
        while not _take(file.fileno()):
            if time.monotonic() > patience:
                raise InputError(
                    f"another comparison, or a run that it began, is at work in {folder}: wait for "
                    "it, or stop it"
                )
            time.sleep(_POLL_SECONDS)
        yield file.fileno()


def reason_of(run: Run) -> str | None:
    """Why a run failed, if it did when it was last tried."""
    failure = read_json(run.failure_file)
    return failure.get("reason") if isinstance(failure, dict) else None


# --- one run ----------------------------------------------------------------------------------


def _prepare(run: Run) -> Done | None:
    """Lay the run's folder out; returns after what it goes on, ``None`` if it begins anew."""
    failure, finished = read_json(run.failure_file), _finished(run)
    if isinstance(failure, dict) and failure.get("resumed_after") == finished:
        finished = None  # what is there may be why it fails
    if finished is None:
        shutil.rmtree(run.checkpoints, ignore_errors=True)
    run.begin()
    run.failure_file.unlink(missing_ok=True)
    run.record_file.unlink(missing_ok=True)  # of another program, or damaged
    return finished


def _finished(run: Run) -> Done | None:
    """What is done of a run that can be resumed; ``None`` where there is none."""
    done = []
    for file in run.checkpoints.glob("*/run.json"):
        if content := read_json(file):
            progress = file.with_name(f"progress{checkpoint.SUFFIX}")
            done.append([len(content["rows"]), checkpoint.epoch_of(progress) or 0])
    return max(done, default=None)


def _start(run: Run, resumed: bool, jobs: int, lock: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "recbole_lightgnn.cli.main", "run", *run.arguments()]
    with (run.folder / "log.txt").open("wb") as log:
        return subprocess.Popen(
            command + ["--resume"] * resumed,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(jobs),
            pass_fds=[lock],
            start_new_session=True,  # Ctrl-C is for this process, which tells the runs
            preexec_fn=_before_run(),
        )


def _environment(jobs: int) -> dict[str, str]:
    """Threads in their share, and what can be imported here can be imported there."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = str(max(1, (cores or 1) // jobs))
    given = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return {"OMP_NUM_THREADS": threads} | given


def _before_run() -> Callable[[], None]:
    """What a new process calls first: it is to hear Ctrl-C, also where this one was begun deaf to
    it (by a shell, with ``&``), and not to outlive this one, where the system can that."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return prepare


def _note_failure(run: Run, status: int, after: Done | None) -> str | None:
    """Why a run that has ended has failed, on disk too; ``None`` if it has not.

    Args:
        run: the run.
        status: of its process.
        after: what was done when it went on, ``None`` if it began anew.
    """
    if status == 0 and run.record() is not None:
        return None
    reason = _reason(run.folder / "log.txt", status)
    failure = {"reason": reason, "status": status}
    if status >= 0:  # a kill says nothing against what is on disk
        failure["resumed_after"] = after
    write_json(run.failure_file, failure)
    return reason


def _reason(log: Path, status: int) -> str:
    if status < 0:
        name = signal.Signals(-status).name
        memory = ": out of memory, perhaps" if name == "SIGKILL" else ""
        return f"ended by {name}{memory}"
    lines = log.read_bytes()[-_TAIL:].decode(errors="replace").splitlines()
    said = [line for line in lines if re.match(r"(internal )?error: ", line)]
    if said:
        return said[-1].removeprefix("error: ")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
    return f"exit status {status}; its last words: {last}"


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End runs as Ctrl-C would, and by force those that take too long."""
    for process in processes:
        _signal(process, signal.SIGINT)
    patience = time.monotonic() + _LAST_WORDS_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, patience - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is None:
        os.killpg(process.pid, number)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
