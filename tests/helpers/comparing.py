"""Run the command ``compare`` on the planted dataset."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from recbole_lightgnn.cli.main import main

# Settings with which LightGNN takes some seconds: seven trainings with one teacher.
LIGHTGNN = ["--LightGNN.n_pruning_runs=5", "--LightGNN.teacher_settings.learning_rate=0.01"]
LIGHTGNN += ["--LightGNN.epochs=12", "--LightGNN.stopping_step=12"]
OUT = Path("out")


def arguments(models, *rest, seeds="1"):
    """Arguments of the command, without the folder."""
    return ["compare", "--dataset=planted", f"--models={models}", f"--seeds={seeds}", *rest]


def compare(models, *rest, seeds="1"):
    """Run the command in this process, in the folder ``out``; return its exit status."""
    return main([*arguments(models, *rest, seeds=seeds), "--out=out"])


def process(models, *rest, out="out", seeds="1"):
    """Start the command as a separate process."""
    command = [sys.executable, "-W", "ignore", "-m", "recbole_lightgnn.cli.main"]
    return subprocess.Popen(
        [*command, *arguments(models, *rest, seeds=seeds), f"--out={out}"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests started with `&` ignore Ctrl-C, and their processes would too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def begun(text):
    """Each run that a command started, with ``begins`` or ``goes on``."""
    return re.findall(r"^(\S+ seed \d+): (begins|goes on)$", text, re.MULTILINE)


def table(out="out"):
    """Rows of table.csv as dictionaries, by label."""
    with Path(out, "table.csv").open(encoding="utf-8") as file:
        return {line["label"]: line for line in csv.DictReader(file)}


def timeless(out="out"):
    """The lines of the table, without times."""
    clock = ("training_seconds", "ranking_ms_per_user")
    return [{k: v for k, v in line.items() if k not in clock} for line in table(out).values()]


def wait_for(condition):
    """Wait until a condition is met; return its value."""
    end = time.monotonic() + 600  # only so that a broken test ends
    while not (found := condition()):
        assert time.monotonic() < end, "the condition was not met in time"
        time.sleep(0.01)
    return found


def children_of(pid):
    """Ids of the processes that a process has started."""
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except FileNotFoundError:
        return []


def runs_of(pid):
    """Processes of runs, once they execute their program."""
    return [child for child in children_of(pid) if b"--result_file" in command_of(child)]


def command_of(pid):
    """Command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""
