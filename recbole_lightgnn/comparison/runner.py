"""Start a process for each search and run of a comparison; a failure stops no other process."""

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
from recbole_lightgnn.comparison.shared_teacher import take_teachers
from recbole_lightgnn.comparison.study import Study, Task
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.runs import checkpoint
from recbole_lightgnn.runs.run_folder import RUN_FILE
from recbole_lightgnn.utils.files import read_json, write_json

# Progress of a run: number of finished trainings, and of epochs in the interrupted training.
# Progress of a search: number of ended trials.
Position = list[int]

_POLL_SECONDS = 0.2
_STOP_SECONDS = 20  # time for runs to end by themselves when the comparison is stopped
_LOCK_SECONDS = 10  # time for the runs of a killed comparison to end and release the lock
_LOG_TAIL_BYTES = 1 << 16
_PR_SET_PDEATHSIG = 1


def run_all(runs: Sequence[Task], jobs: int, lock: int, progress: Progress) -> None:
    """Execute runs or searches, ``jobs`` at a time, until all have ended.

    Each run writes its record, or a file with the reason of its failure. A run that was interrupted
    or failed is resumed from its checkpoints, if it has any. If it then fails before its next epoch
    ends, the following attempt starts from the beginning. A search is continued in the same way
    after its last ended trial.

    Args:
        runs: runs or searches that are not done.
        jobs: number of runs at a time; they share the cores.
        lock: file descriptor from `lock_folder`, which the processes inherit.
        progress: shows each start and end.

    Raises:
        KeyboardInterrupt: if the user presses Ctrl-C; raised after all processes have stopped.
    """
    waiting = list(runs)
    processes: dict[Task, subprocess.Popen[bytes]] = {}
    positions: dict[Task, Position | None] = {}
    try:
        while waiting or processes:
            while waiting and len(processes) < jobs:
                run = waiting.pop(0)
                teacher_of = take_teachers(run) if isinstance(run, Run) else None
                positions[run] = _prepare(run)
                resumed = positions[run] is not None
                processes[run] = _start(run, resumed, jobs, lock)
                progress.began(run, resumed, teacher_of)
            time.sleep(_POLL_SECONDS)
            for run, process in list(processes.items()):
                if (status := process.poll()) is not None:
                    del processes[run]
                    progress.ended(run, _note_failure(run, status, positions[run]))
            progress.tick(list(processes))
    finally:
        _stop(list(processes.values()))


@contextmanager
def lock_folder(folder: Path) -> Iterator[int]:
    """Lock a comparison's folder, so that no second comparison writes to it.

    Yields:
        The file descriptor of the lock. A process that inherits the descriptor holds the lock, too.

    Raises:
        InputError: if the lock is held by another comparison, or still by a process that a killed
            comparison started.
    """
    with (folder / LOCK).open("ab") as file:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not _try_lock(file.fileno()):
            if time.monotonic() > deadline:
                raise InputError(
                    f"another comparison, or a run that it began, is at work in {folder}: wait for "
                    "it, or stop it"
                )
            time.sleep(_POLL_SECONDS)
        yield file.fileno()


# --- one run ----------------------------------------------------------------------------------


def _prepare(run: Task) -> Position | None:
    """Prepare the folder of a run or search for its start.

    Returns:
        The position to resume from; ``None`` to start from the beginning.
    """
    failure, position = run.folder.failure(), _position(run)
    if failure is not None and failure.get("resumed_after") == position:
        position = None  # no progress since the last failure: the checkpoint may be the cause
    if position is None:
        shutil.rmtree(run.folder.checkpoints, ignore_errors=True)
    run.begin()
    run.folder.failure_file.unlink(missing_ok=True)
    run.folder.record_file.unlink(missing_ok=True)  # damaged, or of another run
    return position


def _position(run: Task) -> Position | None:
    """Read how far an earlier process came; ``None`` if there is nothing to resume.

    Returns:
        For a run, the number of its record's finished rows, and the number of epochs of the row
        under way. For a search, the number of ended trials.
    """
    if isinstance(run, Study):
        return run.position()
    position = None
    for file in run.folder.checkpoints.rglob(RUN_FILE):  # two files if the run trains again (refit)
        if content := read_json(file):
            epoch = checkpoint.epoch_of(file.with_name(f"progress{checkpoint.SUFFIX}")) or 0
            rows, epochs = position or (0, 0)
            position = [rows + len(content["rows"]), max(epochs, epoch)]
    return position


def _start(run: Task, resumed: bool, jobs: int, lock: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "recbole_lightgnn.cli.main", *run.command(resumed)]
    with run.folder.log_file.open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(jobs),
            pass_fds=[lock],
            start_new_session=True,  # Ctrl-C reaches only the comparison, which stops the runs
            preexec_fn=_before_run(),
        )


def _environment(jobs: int) -> dict[str, str]:
    """Environment variables of a new process: number of threads, and this process's import path."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = str(max(1, (cores or 1) // jobs))
    given = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return {"OMP_NUM_THREADS": threads} | given


def _before_run() -> Callable[[], None]:
    """Return a function that the new process calls before everything else.

    It makes the process react to Ctrl-C, even if a shell started the comparison with ``&``. On
    Linux, it also makes the process end when the comparison ends.
    """
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return prepare


def _note_failure(run: Task, status: int, resumed_after: Position | None) -> str | None:
    """Write why a run failed into a file; return the reason, or ``None`` if the run has not failed.

    Args:
        run: run that has ended.
        status: exit status of the run's process, or minus the number of the signal that ended it.
        resumed_after: position from which the run was resumed; ``None`` if it was not resumed.
    """
    if status == 0:
        run.conclude()
        if run.record() is not None:
            return None
    reason = _reason(run.folder.log_file, status)
    failure = {"reason": reason, "status": status}
    if status >= 0:  # a signal does not mean that the checkpoint is at fault
        failure["resumed_after"] = resumed_after
    write_json(run.folder.failure_file, failure)
    return reason


def _reason(log: Path, status: int) -> str:
    if status < 0:
        name = signal.Signals(-status).name
        memory = ": out of memory, perhaps" if name == "SIGKILL" else ""
        return f"ended by {name}{memory}"
    lines = log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").splitlines()
    errors = [line for line in lines if re.match(r"(internal )?error: ", line)]
    if errors:
        return errors[-1].removeprefix("error: ")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
    return f"exit status {status}; the last line of its log: {last}"


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Stop processes with SIGINT, as Ctrl-C does; kill those that take too long to stop."""
    for process in processes:
        _signal(process, signal.SIGINT)
    deadline = time.monotonic() + _STOP_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is None:
        os.killpg(process.pid, number)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
