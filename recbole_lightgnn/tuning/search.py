"""A search of settings with Optuna: trainings (trials) are compared by validation score alone.

The study, all trials of a search, is stored in a journal file, to which several processes may
append. Optuna's sampler gets a new random seed for each trial, computed from the search's seed and
the number of earlier trials. A killed trial and its repetition count as one trial. So a search in
one process draws the same settings from the same seed, even if the process is killed and started
again. The first trial uses the values of a run without a search, as far as the search space
contains them.
"""

import gc
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from recbole.utils import get_model

from recbole_lightgnn.config.settings_diff import other_settings, settings_of
from recbole_lightgnn.config.teachers import searches_teachers
from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.errors import InputError, in_a_line
from recbole_lightgnn.quick_start import choose, configure, fingerprint_of
from recbole_lightgnn.tuning.journal import open_journal
from recbole_lightgnn.tuning.space import Space, owner_of, read_space, samples, settle
from recbole_lightgnn.tuning.trial_locks import TrialLocks
from recbole_lightgnn.tuning.trial_states import MOST_KILLS, reason_of, state_of
from recbole_lightgnn.utils.files import check_writable, plain, write_json

SCHEMA_VERSION = 1
# Median stopping needs this many finished trials, and this many epochs of a trial.
_FIRST_TRIALS, _FIRST_EPOCHS = 4, 5


class Search:
    """One search of settings, in one of the processes that run its trials.

    Args:
        model: name of the model; ``None`` for the default of the command ``run``.
        dataset: name of the dataset; ``None`` for the default of the command ``run``.
        config_files: yaml files of settings, as for the command ``run``.
        settings: settings that are not searched. They override the files and the search space.
        space: yaml file of the searched settings (see `read_space`).
        name: name of the study; by default ``MODEL-DATASET``.
        storage: path of the journal; by default ``tuning/NAME.log``.
        environment: function that returns facts about the machine, given the name of the device.
            The facts are recorded with each trial.
        median_stopping: whether to stop a trial when its best score so far is worse than the median
            of the finished trials' scores after the same epoch. Golovin et al., KDD'17, section
            3.2.2, compare running means of the scores instead.

    Attributes:
        space: the searched settings, each with its range or choices.
        first: values of settings in the first trial. A searched setting without a value here is
            drawn.
        model: name of the model.
        dataset: name of the dataset.
        seed: random seed of every training, and of the drawn settings.
        median_stopping: as given.
        metric: name of the validation metric.
        bigger: whether a larger score is better.
        environment: facts about the machine.
        name: name of the study.
        storage: path of the journal.
        record_file: path of the results, ``NAME.json`` in the folder of the journal.
        begun_with: model, dataset, space, settings and data at the start of the study; they must be
            the same when the study is continued.
        locks: locks on the study and on its trials.
        study: Optuna's study.

    Raises:
        InputError: if an argument cannot be used, or if the study was begun with another model,
            dataset or space, other settings or other data.
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
        if searches_teachers(config.final_config_dict):
            self.settings["recipe"] = "default"  # each trial would search for teachers of its own
            config = self._config_of(model, dataset, read, space)
        self.space = settle(read, space, config)
        self.first = self._values_without_search(model, dataset)
        self.model, self.dataset, self.seed = config["model"], config["dataset"], config["seed"]
        # Whether the model is trained in several stages.
        self._staged = getattr(get_model(self.model), "learns_from_teacher", False)
        if median_stopping and self._staged:
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
            "settings": self._fixed_settings(config),
            "dataset_fingerprint": plain(fingerprint_of(config)),
        }
        self.storage.parent.mkdir(parents=True, exist_ok=True)
        self.locks = TrialLocks(self.storage.with_name(f"{self.name}.running"))
        with self.locks:
            self.study = self._open_study()

    def run(
        self,
        trials: int | None,
        minutes: float | None,
        report: Callable[[FrozenTrial], None],
    ) -> None:
        """Run trials until the study has enough trials; the trials of all processes are counted.

        Args:
            trials: number of finished, stopped and failed trials to reach; ``None`` for no limit.
            minutes: time in minutes after which this process begins no trial; ``None`` for no
                limit.
            report: function called with each trial of this process that has ended.
        """
        end = float("inf") if minutes is None else time.monotonic() + 60 * minutes
        gc.freeze()  # so that collections skip all objects of the imported libraries
        try:
            while time.monotonic() < end and (trial := self._next_trial(trials)) is not None:
                report(self._run_trial(trial))
                gc.collect()  # frees the trainer and its model, which refer to each other
        finally:
            gc.unfreeze()

    def close(self) -> None:
        """Release all locks, so that another process may repeat an unfinished trial."""
        self.locks.close()

    def record(self) -> dict[str, Any]:
        """Describe the study and all its trials, as values that JSON can express."""
        best = self.best()
        record: dict[str, Any] = plain(
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
        return record

    def best(self) -> FrozenTrial | None:
        """Return the finished trial with the best score (the earliest if equal), or ``None``."""
        sign = 1 if self.bigger else -1
        finished = self.trials("finished")
        return max(finished, key=lambda trial: sign * cast(float, trial.value), default=None)

    def trials(self, state: str) -> list[FrozenTrial]:
        """Return all trials in a given state (see `state_of`), in the order of their numbers."""
        return [t for t in self.study.get_trials(deepcopy=False) if state_of(t) == state]

    # --- the study on disk ----------------------------------------------------------------------

    def _config_of(
        self, model: str | None, dataset: str | None, space: Space, file: Path
    ) -> RunConfig:
        """Check all samples of the search space; return the ``Config`` of the first sample."""
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
            # If the settings are wrong even without the space, this line raises their own error.
            configure(model, dataset, config_files=self.config_files, settings=self.settings)
            raise InputError(f"{file}: {error}") from error
        return configs[0]

    def _values_without_search(self, model: str | None, dataset: str | None) -> dict[str, Any]:
        """Return each searched setting's value in a run without a search, if it is in the space."""
        files, given = self.config_files, self.settings
        try:
            config = configure(model, dataset, config_files=files, settings=given)
        except InputError:  # the fixed settings may need a value from the space
            return {}
        found = {}
        for key, values in self.space.items():
            stage, owner, name = owner_of(key, config)
            stage_config = config.stage(owner, config[stage]) if stage else config
            with suppress(KeyError, ValueError):
                found[key] = values.parameter(plain(stage_config.final_config_dict[name]))
        return found

    def _fixed_settings(self, config: RunConfig) -> dict[str, Any]:
        """Return all settings that are not searched; they are the same in all trials."""
        settings = settings_of(config)
        for key in self.space:
            stage, _, name = key.rpartition(".")
            (settings[stage] if stage else settings).pop(name, None)
        return settings

    def _open_study(self) -> optuna.Study:
        """Open the study in the journal, or begin a new study.

        Raises:
            InputError: if the journal cannot be read, or if the study was begun with other
                settings or data.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            study_name=self.name,
            storage=open_journal(self.storage),
            direction="maximize" if self.bigger else "minimize",
            pruner=optuna.pruners.MedianPruner(
                _FIRST_TRIALS, _FIRST_EPOCHS, n_min_trials=_FIRST_TRIALS
            ),
            load_if_exists=True,
        )
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
        """Raise InputError if the study was begun with another model, other settings or data."""
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
                    f"{where} was begun with {what} ({', '.join(other)}): continue with what it "
                    f"was begun with, {remedy}"
                )
        if begun_with["dataset_fingerprint"] != self._fingerprint:
            raise InputError(
                f"{where} was begun on other interactions than {self.dataset} has now: put the "
                f"files back, {remedy}"
            )

    # --- one trial ------------------------------------------------------------------------------

    def _next_trial(self, wanted: int | None) -> Trial | None:
        """Begin and lock a trial; return ``None`` if enough trials have ended or are running.

        Args:
            wanted: number of trials of the study; ``None`` for no limit.
        """
        with self.locks:
            for running in self.trials("running"):
                if self.locks.acquire(running.number):  # its process has ended
                    self._repeat(running)
                    self.locks.release(running.number)
            states = [state_of(trial) for trial in self.study.get_trials(deepcopy=False)]
            counted = sum(state in ("finished", "stopped", "failed", "running") for state in states)
            if wanted is not None and counted >= wanted:
                self._write()
                return None
            if not states:
                self.study.enqueue_trial(self.first)
            trial = self.study.ask()
            self.locks.acquire(trial.number)
            # `ask` draws no values yet: `suggest` draws them below, with the sampler set here.
            self.study.sampler = optuna.samplers.TPESampler(seed=self._seed_of(trial))
            settings = {key: values.suggest(trial, key) for key, values in self.space.items()}
            trial.set_user_attr("settings", settings)
            trial.set_user_attr("environment", self.environment)
            return trial

    def _repeat(self, trial: FrozenTrial) -> None:
        """End the trial of a killed process; queue its settings again, unless killed too often."""
        self.study.tell(trial.number, state=TrialState.FAIL)
        kills = trial.user_attrs.get("kills", 0) + 1
        # Settings that were not all drawn are drawn anew, from the same random seed.
        drawn = trial.params if "settings" in trial.user_attrs else {}
        settings = trial.system_attrs.get("fixed_params", {}) | drawn
        if settings and kills < MOST_KILLS:
            self.study.enqueue_trial(settings, user_attrs={"kills": kills})

    def _run_trial(self, trial: Trial) -> FrozenTrial:
        """Train with the trial's settings; record the score, or the reason why there is no score.

        Raises:
            InputError: if the dataset's files were changed during the search.
        """
        began, outcome, reason, state = time.monotonic(), None, "", TrialState.FAIL
        after_validation = None if self._staged else partial(self._report, trial)
        try:
            outcome = choose(
                self.model,
                self.dataset,
                config_files=self.config_files,
                settings=self.settings | trial.user_attrs["settings"],
                after_validation=after_validation,
            )
        except optuna.TrialPruned as stop:  # raised by `_report`
            reason, state = str(stop), TrialState.PRUNED
        except Exception as error:  # for example when memory runs out
            reason = in_a_line(error)
        if outcome and plain(outcome["dataset_fingerprint"]) != self._fingerprint:
            raise InputError(f"the files of {self.dataset} were changed during the search")
        with self.locks:
            trial.set_user_attr("seconds", time.monotonic() - began)
            if outcome:
                trial.set_user_attr("valid", outcome["valid"])
                self.study.tell(trial, outcome["score"])
            else:
                trial.set_user_attr("reason", reason)
                self.study.tell(trial, state=state)
            self.locks.release(trial.number)
            self._write()
        return self.study.get_trials(deepcopy=False)[trial.number]

    def _report(self, trial: Trial, epoch: int, score: float) -> None:
        """Report an epoch's score to Optuna; raise TrialPruned if the trial is to stop."""
        if not math.isfinite(score):
            return  # the training itself reports the error
        trial.report(score, epoch)
        if self.median_stopping and trial.should_prune():
            raise optuna.TrialPruned(f"stopped after epoch {epoch}, worse than the median")

    @property
    def _fingerprint(self) -> Any:
        return self.begun_with["dataset_fingerprint"]

    def _seed_of(self, trial: Trial) -> int:
        """Derive the random seed that draws a trial's settings; a repeated trial keeps the seed."""
        earlier = self.study.get_trials(deepcopy=False)[: trial.number]
        place = sum(state_of(one) != "killed" for one in earlier)
        return int(np.random.SeedSequence([self.seed, place]).generate_state(1)[0])

    def _row(self, trial: FrozenTrial) -> dict[str, Any]:
        """Describe a trial for the record of the study, as values that JSON can express."""
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
