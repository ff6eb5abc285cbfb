"""A search of settings: trials that are judged by validation alone, kept on disk by Optuna.

What a search has done is in a journal file, to which several processes may write. Each trial's
suggestions are drawn with a seed of its own, from the search's seed and the trial's number: a
single process gets the same ones from the same seed, stopped and continued or not.
The first trial has the settings that a run has without a search, where the space has them.
"""

import gc
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, Trial, TrialState

from recbole_lightgnn.config.schema import INTERMEDIATE, STUDENT
from recbole_lightgnn.config.settings_diff import other_settings, settings_of
from recbole_lightgnn.errors import InputError, in_a_line
from recbole_lightgnn.quick_start import choose, configure, fingerprint_of
from recbole_lightgnn.tuning.space import Space, owner_of, read_space, samples, settle
from recbole_lightgnn.tuning.trial_locks import Desk
from recbole_lightgnn.utils.files import check_writable, plain, write_json

SCHEMA_VERSION = 1
# A trial that has ended its process this often, by taking all memory perhaps, has failed.
MOST_KILLS = 3
# The median is of at least so many finished trials, and counts after so many epochs.
_FIRST_TRIALS, _FIRST_EPOCHS = 4, 5
_STAGED = (INTERMEDIATE, STUDENT)


class Search:
    """One search, as one of the processes sees it.

    Args:
        model, dataset, config_files: as for a run.
        settings: held fixed; stronger than the files, and than the space.
        space: yaml file of what is searched (see `read_space`).
        name: of the study.
        storage: the journal file.
        environment: what a result may depend on besides the settings, given the device.
        median_stopping: end a trial whose best score so far is worse than the median of what
            finished ones had after the same epoch (Golovin et al., KDD'17, section 3.2.2: here of
            their scores, not of their running means).

    Raises:
        InputError: if anything of it cannot be used, or if the study was begun with another model,
            dataset, space or other settings.
    """

    def __init__(
        self,
        model: str | None,
        dataset: str | None,
        *,
        config_files: Iterable[Path | str],
        settings: Mapping[str, Any],
        space: Path,
        name: str | None,
        storage: Path | None,
        environment: Callable[[str], dict[str, Any]],
        median_stopping: bool = False,
    ) -> None:
        self.config_files, self.settings = list(config_files), dict(settings)
        read = read_space(space, self.settings)
        config = self._config_of(model, dataset, read, space)
        self.space = settle(read, space, config)
        self.first = self._in_force(model, dataset)
        self.model, self.dataset, self.seed = config["model"], config["dataset"], config["seed"]
        if median_stopping and self.model in _STAGED:
            raise InputError(
                f"--median-stopping compares trials epoch by epoch, and {self.model} trains "
                "several stages: leave it out, or search LightGNNTeacher"
            )
        self.median_stopping = median_stopping
        self.metric = config["valid_metric"].lower()
        self.bigger = config["valid_metric_bigger"]
        self.environment = environment(str(config["device"])) | {"optuna": optuna.__version__}
        self.name = name or f"{self.model}-{self.dataset}"
        self.storage = storage or Path("tuning", f"{self.name}.log")
        self.record_file = self.storage.with_name(f"{self.name}.json")
        if self.record_file == self.storage:
            raise InputError(f"storage {storage} is where the results go: name another file")
        check_writable("storage", self.storage)
        self.begun_with = {
            "model": self.model,
            "dataset": self.dataset,
            "space": {key: values.described() for key, values in self.space.items()},
            "settings": self._fixed(config),
            "dataset_fingerprint": plain(fingerprint_of(config)),
        }
        self.storage.parent.mkdir(parents=True, exist_ok=True)
        self.desk = Desk(self.storage.with_name(f"{self.name}.running"))
        with self.desk:
            self.study = self._open()

    def run(
        self,
        trials: int | None,
        minutes: float | None,
        report: Callable[[FrozenTrial], None],
    ) -> None:
        """Do trials until the study has so many, counting those of all processes.

        Args:
            trials: how many, the finished, stopped and failed; ``None`` for no bound.
            minutes: after which this process begins no more; ``None`` for no bound.
            report: told of each trial when it is over.
        """
        end = float("inf") if minutes is None else time.monotonic() + 60 * minutes
        while time.monotonic() < end and (trial := self._next(trials)) is not None:
            report(self._do(trial))
            gc.collect()  # a trainer and its model hold each other, and with them their memory

    def close(self) -> None:
        """Leave the study to others; what this process had begun is begun again by the next."""
        self.desk.close()

    def record(self) -> dict[str, Any]:
        """All that is known of the study, of plain JSON values only."""
        best = self.best()
        return plain(
            {
                "schema_version": SCHEMA_VERSION,
                "study": self.name,
                **self.begun_with,
                "seed": self.seed,
                "valid_metric": self.metric,
                "best": None if best is None else best.number,
                "trials": [self._row(trial) for trial in self.study.get_trials(deepcopy=False)],
            }
        )

    def best(self) -> FrozenTrial | None:
        """The finished trial with the best validation score, the first of equals; or ``None``."""
        sign = 1 if self.bigger else -1
        return max(self.trials("finished"), key=lambda t: sign * t.value, default=None)

    def trials(self, state: str) -> list[FrozenTrial]:
        """Those in one of the states of `state_of`, in order."""
        return [t for t in self.study.get_trials(deepcopy=False) if state_of(t) == state]

    # --- the study on disk ----------------------------------------------------------------------

    def _config_of(self, model: str | None, dataset: str | None, space: Space, file: Path) -> Any:
        """The ``Config`` of the first of the space's samples, after a look at all of them."""
        try:
            configs = [
                configure(
                    model,
                    dataset,
                    config_files=self.config_files,
                    settings=self.settings | sample,
                )
                for sample in samples(space)
            ]
        except InputError as error:
            # What is wrong without the space too is not the space's fault.
            configure(model, dataset, config_files=self.config_files, settings=self.settings)
            raise InputError(f"{file}: {error}") from error
        return configs[0]

    def _in_force(self, model: str | None, dataset: str | None) -> dict[str, Any]:
        """Optuna's parameters of a run without a search, as far as the space has them."""
        files, given = self.config_files, self.settings
        try:
            config = configure(model, dataset, config_files=files, settings=given)
        except InputError:  # such a run may need what the space says
            return {}
        found = {}
        for key, values in self.space.items():
            stage, owner, name = owner_of(key, config)
            of_owner = config.stage(owner, config[stage]) if stage else config
            with suppress(KeyError, ValueError):
                found[key] = values.parameter(plain(of_owner.final_config_dict[name]))
        return found

    def _fixed(self, config: Any) -> dict[str, Any]:
        """Every setting in force, but for those searched."""
        settings = settings_of(config)
        for key in self.space:
            stage, _, name = key.rpartition(".")
            (settings[stage] if stage else settings).pop(name, None)
        return settings

    def _open(self) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # Absolute, or Optuna would wait for ever for the lock of a process that was killed with it.
        file = str(self.storage.absolute())
        _mend(self.storage, JournalFileSymlinkLock(file))
        try:
            study = optuna.create_study(
                study_name=self.name,
                storage=JournalStorage(JournalFileBackend(file)),
                direction="maximize" if self.bigger else "minimize",
                pruner=optuna.pruners.MedianPruner(
                    _FIRST_TRIALS, _FIRST_EPOCHS, n_min_trials=_FIRST_TRIALS
                ),
                load_if_exists=True,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"storage {self.storage} cannot be read as a journal of Optuna's ({error}): name "
                "another file"
            ) from error
        if "begun_with" not in study.user_attrs:
            if study.get_trials(deepcopy=False):
                raise InputError(
                    f"study {self.name} in {self.storage} was not begun by `tune`: name another "
                    "with --study"
                )
            study.set_user_attr("begun_with", self.begun_with)
        self._check_same(study.user_attrs["begun_with"])
        return study

    def _check_same(self, begun_with: Mapping[str, Any]) -> None:
        where, remedy = f"study {self.name} in {self.storage}", "or name another with --study"
        for key in ("model", "dataset"):
            if begun_with[key] != self.begun_with[key]:
                raise InputError(
                    f"{where} is of {key} {begun_with[key]}, not of {self.begun_with[key]}: "
                    f"give --{key}={begun_with[key]}, {remedy}"
                )
        for part, what in (("space", "another space"), ("settings", "other settings")):
            old, new = begun_with[part], self.begun_with[part]
            if other := other_settings(old, new):
                raise InputError(
                    f"{where} was begun with {what} ({', '.join(other)}): go on with what it was "
                    f"begun with, {remedy}"
                )
        if begun_with["dataset_fingerprint"] != self.begun_with["dataset_fingerprint"]:
            raise InputError(
                f"{where} was begun on other interactions than {self.dataset} has now: put the "
                f"files back, {remedy}"
            )

    # --- one trial ------------------------------------------------------------------------------

    def _next(self, wanted: int | None) -> Trial | None:
        """The next trial, this process's own; ``None`` if enough are done or under way."""
        with self.desk:
            for trial in self.trials("running"):
                if self.desk.take(trial.number):  # its process is no more
                    self._again(trial)
                    self.desk.leave(trial.number)
            states = [state_of(trial) for trial in self.study.get_trials(deepcopy=False)]
            taken = sum(state in ("finished", "stopped", "failed", "running") for state in states)
            if wanted is not None and taken >= wanted:
                self._write()
                return None
            if not states:
                self.study.enqueue_trial(self.first)
            trial = self.study.ask()
            self.desk.take(trial.number)
            # Asked for already: what follows draws its values, by the sampler that it finds.
            self.study.sampler = optuna.samplers.TPESampler(seed=self._seed_of(trial))
            settings = {key: values.suggest(trial, key) for key, values in self.space.items()}
            trial.set_user_attr("settings", settings)
            trial.set_user_attr("environment", self.environment)
            return trial

    def _again(self, trial: FrozenTrial) -> None:
        """Let a trial whose process was killed be done by whoever comes next."""
        self.study.tell(trial.number, state=TrialState.FAIL)
        kills = trial.user_attrs.get("kills", 0) + 1
        settings = trial.system_attrs.get("fixed_params", {}) | trial.params
        if settings and kills < MOST_KILLS:
            self.study.enqueue_trial(settings, user_attrs={"kills": kills})

    def _do(self, trial: Trial) -> FrozenTrial:
        began, outcome, reason, state = time.monotonic(), None, "", TrialState.FAIL
        try:
            outcome = choose(
                self.model,
                self.dataset,
                config_files=self.config_files,
                settings=self.settings | trial.user_attrs["settings"],
                after_validation=None if self.model in _STAGED else partial(self._told, trial),
            )
        except optuna.TrialPruned as stop:  # by `_told`
            reason, state = str(stop), TrialState.PRUNED
        except Exception as error:  # memory that torch does not get, for one
            reason = in_a_line(error)
        if outcome and plain(outcome["dataset_fingerprint"]) != self._data:
            raise InputError(f"the files of {self.dataset} were changed during the search")
        with self.desk:
            trial.set_user_attr("seconds", time.monotonic() - began)
            if outcome:
                trial.set_user_attr("valid", outcome["valid"])
                self.study.tell(trial, outcome["score"])
            else:
                trial.set_user_attr("reason", reason)
                self.study.tell(trial, state=state)
            self.desk.leave(trial.number)
            self._write()
        return self.study.get_trials(deepcopy=False)[trial.number]

    def _told(self, trial: Trial, epoch: int, score: float) -> None:
        """Take an epoch's score down.

        Raises:
            optuna.TrialPruned: if the trial is not worth another epoch.
        """
        if not math.isfinite(score):
            return  # the training itself says what is wrong
        trial.report(score, epoch)
        if self.median_stopping and trial.should_prune():
            raise optuna.TrialPruned(f"stopped after epoch {epoch}, worse than the median")

    @property
    def _data(self) -> dict[str, Any]:
        return self.begun_with["dataset_fingerprint"]

    def _seed_of(self, trial: Trial) -> int:
        """A seed of the trial's own: two processes with one seed must not suggest the same."""
        return int(np.random.SeedSequence([self.seed, trial.number]).generate_state(1)[0])

    def _row(self, trial: FrozenTrial) -> dict[str, Any]:
        """One trial in the record."""
        known = trial.user_attrs
        return {
            "number": trial.number,
            "state": state_of(trial),
            "settings": known.get("settings", trial.params),
            "score": trial.value if trial.state == TrialState.COMPLETE else None,
            "valid": known.get("valid"),
            "seconds": known.get("seconds"),
            "seed": self.seed,
            "reason": reason_of(trial),
            "environment": known.get("environment"),
        }

    def _write(self) -> None:
        write_json(self.record_file, self.record())


def state_of(trial: FrozenTrial) -> str:
    """What became of a trial.

    Returns:
        ``finished``, ``stopped`` by the median or ``failed`` (see `reason_of`), ``running``,
        ``waiting`` to be begun again, or ``killed`` with its process, and begun again under
        another number.
    """
    if trial.state == TrialState.FAIL:
        return "failed" if reason_of(trial) else "killed"
    names = {
        TrialState.COMPLETE: "finished",
        TrialState.PRUNED: "stopped",
        TrialState.RUNNING: "running",
    }
    return names.get(trial.state, "waiting")


def reason_of(trial: FrozenTrial) -> str | None:
    """Why a trial failed or was stopped, in one line; ``None`` if it was neither."""
    if trial.state not in (TrialState.FAIL, TrialState.PRUNED):
        return None
    known = trial.user_attrs
    if "reason" not in known and known.get("kills", 0) + 1 >= MOST_KILLS:
        return f"its process was ended {MOST_KILLS} times before it was done"
    return known.get("reason")


def _mend(storage: Path, lock: JournalFileSymlinkLock) -> None:
    """Take off the line that a process was killed in the middle of, before another follows it.

    Raises:
        InputError: if the file is no journal.
    """
    if not storage.exists():
        return
    lock.acquire()
    try:
        content = storage.read_bytes()
        if content and not content.startswith(b'{"op_code"'):
            raise InputError(f"storage {storage} is not a journal of Optuna's: name another file")
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(storage, whole)
    finally:
        lock.release()
