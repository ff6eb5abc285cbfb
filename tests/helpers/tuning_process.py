"""Run ``recbole-lightgnn tune`` as one of several processes, or as a process that is killed.

Usage: ``tuning_process.py MOMENT ARGUMENT...``, in a folder with the dataset. MOMENT is

- ``kill:N``: kill the process (SIGKILL) in the first training step of its N-th trial;
- ``meet:N``: wait until N processes have started, then begin with the trials.
"""

import os
import signal
import sys
import time
from pathlib import Path

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.trainer.training import Training
from recbole_lightgnn.tuning.search import Search


def kill_in_trial(number: int) -> None:
    """Kill this process in the first epoch of its trial ``number``."""
    begun = []
    train_epoch = Training._train_epoch

    def counted(self: Training, train_data: object) -> object:
        begun.extend([1] if self.epoch == 0 else [])
        if len(begun) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return train_epoch(self, train_data)

    Training._train_epoch = counted


def meet(number: int) -> None:
    """Make `Search.run` wait until ``number`` processes have started."""
    run = Search.run

    def together(self: Search, *arguments: object) -> None:
        Path(f"here-{os.getpid()}").touch()
        while len(list(Path().glob("here-*"))) < number:
            time.sleep(0.01)
        run(self, *arguments)

    Search.run = together


if __name__ == "__main__":
    kind, _, n = sys.argv[1].partition(":")
    {"kill": kill_in_trial, "meet": meet}[kind](int(n))
    sys.exit(main(["tune", *sys.argv[2:]]))
