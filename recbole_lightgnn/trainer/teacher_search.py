"""Find a teacher for any dataset (``recipe: auto``): a bounded search, by validation alone.

First, trials train `LightGNNTeacher` with proposed settings. After each, the three settings
``ranking_...`` are fitted, which needs no training. Then the best trials and models without
training (Spectral, RP3beta, EASE) become candidates for a sum of teachers.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from logging import getLogger
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import torch
from recbole.utils import set_color

from recbole_lightgnn.config.teachers import Teacher, teachers_of
from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.errors import InputError, in_a_line
from recbole_lightgnn.models.base import GraphRecommender
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.models.teacher import LightGNNTeacher
from recbole_lightgnn.registry import TEACHER
from recbole_lightgnn.runs.run_folder import RunFolder
from recbole_lightgnn.trainer.evaluation import is_full_ranking
from recbole_lightgnn.trainer.mixing import LEAST_USERS, can_choose, choose_weights
from recbole_lightgnn.trainer.proposals import Tried, propose
from recbole_lightgnn.trainer.training import Label
from recbole_lightgnn.utils.files import read_json, write_json, write_yaml

SEARCH_FILE = "search.json"  # in the run folder: the trials so far, and the teachers that are found
RECIPE_FILE = "recipe.yaml"  # in the run folder: settings that give the same run without a search
# Users to compare trials on: all, or so many that there are at most this number of scores.
_MOST_SCORES, _SAMPLED_USERS = 500_000_000, 5000
_MOST_ENTRIES = 30_000_000  # of Spectral's two tables
_LEAST_WEIGHT = 0.1  # of the best trial, if no trial has a weight
_KEPT = 3  # trained trials that become candidates for the sum
# Models without training: most items, settings to begin with, and settings that are tuned in turn.
_Rounds = tuple[tuple[str, tuple[float, ...]], ...]
_SOLVED: dict[str, tuple[int, dict[str, Any], _Rounds]] = {
    "Spectral": (
        1_000_000,
        {"embedding_size": 64},
        (
            ("embedding_size", (16, 32, 64)),
            ("degree_offset", (2, 5, 10, 20)),
            ("item_exponent", (0.1, 0.3, 0.5)),
            ("embedding_size", (16, 32, 64, 128, 256, 512)),
        ),
    ),
    "RP3beta": (50_000, {}, (("degree_offset", (0, 10)), ("beta", (0.0, 0.2, 0.4, 0.6)))),
    # The time of EASE grows with the cube of the number of items.
    "EASE": (8000, {}, (("reg_weight", (30, 100, 300, 1000, 3000)),)),
}
_WITHOUT_TABLES = ("RP3beta", "EASE")
_RANKING: dict[str, tuple[float, ...]] = {
    "ranking_norm": (0.0, 0.1, 0.3, 0.5, 1.0),
    "ranking_prior": (0.0, 0.3, 0.5, 0.8, 1.2),
    "ranking_self_weight": (0.5, 1.0, 1.5),
}


class Host(Protocol):
    """What the search needs of the trainer of the stages."""

    config: RunConfig
    settings: Settings
    model: GraphRecommender

    def train_trial(self, label: Label, config: RunConfig, data: Any) -> tuple[Any, dict[str, Any]]:
        """Train a model, with validation on ``data``.

        Returns:
            The model in evaluation mode, and what `Training.fit` returns.
        """

    def load_trial(self, label: Label, config: RunConfig) -> Any:
        """Rebuild a trial's model from its checkpoint."""

    def adopt_trial(self, model: Any, label: Label, teacher: Teacher, result: Any) -> None:
        """Make a trial's model the finished teacher with the name ``label``."""

    def validation(self, model: Any, data: Any = None) -> dict[str, float]:
        """Compute a model's validation metrics, or its metrics on other evaluation data."""


class TeacherSearch:
    """A search for the teachers of one run; it continues where a killed process ended.

    Args:
        host: trainer of the run's stages.
        folder: the run folder, which gets ``search.json``.
        valid_data: RecBole's validation loader.
    """

    def __init__(self, host: Host, folder: RunFolder, valid_data: Any) -> None:
        self.host, self.folder, self.valid_data = host, folder, valid_data
        self.sample = _sample(valid_data)
        self.metric = host.settings.text("valid_metric").lower()
        self.sign = 1.0 if host.settings.flag("valid_metric_bigger") else -1.0
        self.n_interactions = self.host.model.observed.n_edges
        self.longest = max(host.settings["topk"])
        self.most_trials = host.settings.integer("search_trials")
        # With too few users, differences of scores are noise, and the plainest settings are taken.
        self.few_users = len(valid_data.uid_list) < LEAST_USERS
        self.sums = can_choose(valid_data, self.metric)  # else the best trial is the teacher
        self.most_seconds = 60 * host.settings.number("search_minutes")
        self.file = Path(folder.path, SEARCH_FILE)
        self.content: dict[str, Any] = {"trials": [], "solved": [], "teachers": None}
        if saved := read_json(self.file):
            self.content = saved
        self.logger = getLogger()

    def run(self) -> list[Teacher]:
        """Search, unless an earlier process has finished the search; return the teachers found.

        Raises:
            InputError: if no trial succeeded.
        """
        if self.content["teachers"] is None:
            self._train_trials()
            self._solve_models()
            self.content["teachers"] = self._choose()
            write_yaml(self.folder.path / RECIPE_FILE, {"recipe": "auto", **self.found()})
            self._save()  # last: the search is finished
        # A kill may have left them.
        for pattern in ("trial-*", *(f"{model}.*" for model in _SOLVED)):
            for file in self.folder.path.glob(pattern):
                file.unlink()
        return teachers_of(self.found())

    def tried(self) -> list[dict[str, Any]]:
        """List all trials and models without training: settings, score, seconds of each."""
        keys = ("model", "settings", "ranking", "score", "seconds", "error")
        every = [{"model": TEACHER, **trial} for trial in self.content["trials"]]
        every += self.content["solved"]
        return [{key: one[key] for key in keys if key in one} for one in every]

    def found(self) -> dict[str, Any]:
        """Return the found teachers as the setting ``teachers``."""
        return {"teachers": self.content["teachers"]}

    # --- trials -----------------------------------------------------------------------------

    def _train_trials(self) -> None:
        if self.few_users:
            self.logger.warning(
                f"validation has {len(self.valid_data.uid_list)} users, too few to compare "
                "settings: the search tries only the plainest ones"
            )
            self.most_trials = 1
        trials = self.content["trials"]
        while len(trials) < self.most_trials and self._has_time():
            tried = [
                Tried(
                    one["settings"],
                    one["score"],
                    one.get("result", {}).get("planned_epochs"),
                    one["seconds"],
                )
                for one in trials
            ]
            settings = propose(tried, self.n_interactions, self.most_seconds)
            if settings is None:
                break
            trials.append(self._trial(len(trials), settings))
            self._save()
            self._report(trials)

    def _has_time(self) -> bool:
        """Whether another trial may begin; the first one always may."""
        seconds = [trial["seconds"] for trial in self.content["trials"]]
        return not seconds or sum(seconds) < self.most_seconds

    def _trial(self, number: int, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Train one teacher, fit its ranking, and describe it."""
        width = self.host.settings.integer("embedding_size")  # of the student, which starts from it
        settings = {**settings, "embedding_size": max(settings["embedding_size"], width)}
        started = perf_counter()
        label = Label("trial", number, self.most_trials - 1)
        trial: dict[str, Any] = {"settings": settings, "score": None}
        given = {**settings, "eval_step": settings["epochs"]}
        try:
            config = self.host.config.stage(TEACHER, given)
            model, result = self.host.train_trial(label, config, self.sample)
            started = perf_counter() - result["seconds"]  # with those of a killed process
            ranking, score = self._fit_ranking(model)
            trial |= {"ranking": ranking, "score": score, "result": result}
        except (InputError, MemoryError, torch.OutOfMemoryError) as error:
            trial["error"] = in_a_line(error)  # for example, the training diverged
        self.folder.progress_file.unlink(missing_ok=True)
        return trial | {"seconds": perf_counter() - started}

    @torch.no_grad()
    def _fit_ranking(self, model: LightGNNTeacher) -> tuple[dict[str, float], float]:
        """Set each of the settings ``ranking_...`` in turn to its best value.

        Returns:
            The settings, and the validation score with them, larger is better.
        """
        chosen = {key: float(getattr(model, key)) for key in _RANKING}
        best = self._ranked(model, chosen)
        for key, values in _RANKING.items():
            for value in values:
                changed = {**chosen, key: value}
                if changed != chosen and (score := self._ranked(model, changed)) > best:
                    best, chosen = score, changed
        return chosen, best

    def _ranked(self, model: LightGNNTeacher, ranking: Mapping[str, float]) -> float:
        model.set_ranking(**ranking)
        return self._score(model)

    def _score(self, model: Any) -> float:
        return self.sign * self.host.validation(model, self.sample)[self.metric]

    # --- models without training ------------------------------------------------------------

    def _solve_models(self) -> None:
        """Tune the models without training that the data are small enough for."""
        if self.few_users or not self.sums:
            return
        dataset = self.valid_data._dataset
        n_users, n_items = dataset.user_num - 1, dataset.item_num - 1
        for model, (most_items, start, rounds) in _SOLVED.items():
            # RecBole's evaluator, for models without tables, needs a list of items as long.
            if n_items > most_items or (model in _WITHOUT_TABLES and n_items < self.longest):
                continue
            best = dict(start)
            for key, values in rounds:
                tried = [{**best, key: value} for value in values]
                scores = [
                    (score, one)
                    for one in tried
                    if _fits(one, n_users, n_items)
                    if (score := self._solve(model, one)) is not None
                ]
                best = max(scores, key=lambda pair: pair[0], default=(0, best))[1]

    def _solve(self, model: str, settings: Mapping[str, Any]) -> float | None:
        """Score a model without training, unless an earlier process has done so.

        Returns:
            The score; ``None`` if the time is over. The first settings of a model always have time.
        """
        solved = self.content["solved"]
        before = [one for one in solved if one["model"] == model]
        for one in before:
            if one["settings"] == settings:
                return float(one["score"])
        # Earlier versions did not save the seconds.
        if before and sum(one.get("seconds", 0.0) for one in solved) > self.most_seconds / 2:
            return None
        started = perf_counter()
        trained, result = self._solved(model, settings)
        valid = result.get("valid") or self.host.validation(trained)  # a model of RecBole's
        score = self.sign * float(valid[self.metric])
        one = {"model": model, "settings": dict(settings), "score": score}
        solved.append(one | {"seconds": perf_counter() - started})
        self._save()
        return score

    def _solved(self, model: str, settings: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Compute a model; return it, and what `Host.train_trial` returns of it."""
        config = self.host.config.stage(model, settings)
        # RecBole's evaluator, for models without tables, ranks all users of the loader.
        data = self.valid_data if model in _WITHOUT_TABLES else self.sample
        trained, result = self.host.train_trial(Label(model), config, data)
        self.folder.progress_file.unlink(missing_ok=True)
        return trained, result

    # --- the sum ----------------------------------------------------------------------------

    def _choose(self) -> list[dict[str, Any]]:
        """Choose the weights of the candidates, and return the teachers with a weight above 0."""
        trials = list(enumerate(self.content["trials"]))
        scored = [pair for pair in trials if pair[1]["score"] is not None]
        if not scored:
            raise InputError(f"no trial of the search succeeded; {trials[0][1]['error']}")
        best = sorted(scored, key=lambda pair: (-pair[1]["score"], pair[0]))
        best = best[: _KEPT if self.sums else 1]
        teachers = [self._teacher_of(trial) for _, trial in best]
        members = [self._load(number, trial) for number, trial in best]
        for name in _SOLVED:
            solved = [one for one in self.content["solved"] if one["model"] == name]
            if solved:
                one = max(solved, key=lambda one: one["score"])
                teachers.append({"model": name, **one["settings"]})
                members.append(self._solved(name, one["settings"])[0])
        frozen = [FrozenTeacher(member) for member in members]
        weights = [1.0]
        if len(members) > 1:
            weights = choose_weights(frozen, self.valid_data, self.metric)
        if not any(weights[: len(best)]):
            weights[0] = _LEAST_WEIGHT  # the student starts from this teacher's embeddings
        found = [
            {**teacher, "weight": weight}
            for teacher, weight in zip(teachers, weights, strict=True)
            if weight
        ]
        kept = [number for number, weight in enumerate(weights) if weight]
        for number, (place, teacher) in enumerate(
            zip(kept, teachers_of({"teachers": found}), strict=True)
        ):
            if place < len(best):
                label = Label("teacher", number or None, len(kept) - 1)
                self.host.adopt_trial(members[place], label, teacher, best[place][1]["result"])
        return found

    def _teacher_of(self, trial: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a trial as an entry of the setting ``teachers``."""
        settings = {**trial["settings"], **trial["ranking"]}
        settings["eval_step"] = settings["epochs"]
        return {"model": TEACHER, **settings}

    def _load(self, number: int, trial: Mapping[str, Any]) -> Any:
        settings = self._teacher_of(trial)
        settings.pop("model")
        config = self.host.config.stage(TEACHER, settings)
        return self.host.load_trial(Label("trial", number), config)

    # --- files ------------------------------------------------------------------------------

    def _save(self) -> None:
        write_json(self.file, self.content)

    def _report(self, trials: list[dict[str, Any]]) -> None:
        scores = [self.sign * trial["score"] for trial in trials if trial["score"] is not None]
        last, best = trials[-1]["score"], max(scores, key=lambda x: self.sign * x, default=None)
        text = "failed" if last is None else f"{self.sign * last:.4f}"
        self.logger.info(
            set_color(f"search {len(trials)}/{self.most_trials}", "green")
            + f" {self.metric}: {text}"
            + ("" if best is None else f", best so far {best:.4f}")
        )


def _fits(settings: Mapping[str, Any], n_users: int, n_items: int) -> bool:
    """Whether the number of singular values, if any, fits the data and is computed in minutes."""
    width = settings.get("embedding_size", 0)
    return bool(width < min(n_users, n_items) and width * (n_users + n_items) <= _MOST_ENTRIES)


def _sample(valid_data: Any) -> Any:
    """Return the validation loader, or one with fewer users if a ranking would take long."""
    users = valid_data.uid_list
    most = max(_SAMPLED_USERS, _MOST_SCORES // valid_data._dataset.item_num)
    if len(users) <= most or not is_full_ranking(valid_data):
        return valid_data
    sample = copy(valid_data)
    sample.uid_list = users[torch.linspace(0, len(users) - 1, most).round().long()]
    return sample
