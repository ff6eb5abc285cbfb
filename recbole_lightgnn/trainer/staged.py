"""RecBole trainer that trains all stages of LightGNN: teacher, intermediate model, student."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from recbole.utils import set_color

from recbole_lightgnn.config.teachers import Teacher, searches_teachers, teachers_of
from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.data.fingerprint import fingerprints
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.base import GraphRecommender
from recbole_lightgnn.models.ensemble import Ensemble
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.models.intermediate import LightGNNIntermediate
from recbole_lightgnn.models.pruned import PrunedRecommender
from recbole_lightgnn.models.student import LightGNN
from recbole_lightgnn.models.taught import TaughtRecommender
from recbole_lightgnn.registry import INTERMEDIATE, TEACHER
from recbole_lightgnn.runs import checkpoint
from recbole_lightgnn.runs.checkpoint_model import CheckpointModel
from recbole_lightgnn.runs.run_folder import RunFolder
from recbole_lightgnn.trainer import memory
from recbole_lightgnn.trainer.evaluation import Ranked
from recbole_lightgnn.trainer.mixing import can_choose, choose_weights
from recbole_lightgnn.trainer.record_rows import refit_row
from recbole_lightgnn.trainer.stage_trainer import Row, StageTrainer
from recbole_lightgnn.trainer.teacher_search import TeacherSearch
from recbole_lightgnn.trainer.training import Label

_STAGE = {TEACHER: "teacher", INTERMEDIATE: "intermediate"}


class StagedTrainer(StageTrainer):
    """Train LightGNN's stages, or a `TaughtRecommender` after its teacher, or one model alone.

    Best epochs are chosen on validation data. Only :meth:`stage_rows` and :meth:`evaluate` use test
    data, after all epochs are chosen.

    Args:
        config: settings of the run. Its method ``stage``, which `recbole_config.extend_recbole`
            adds, returns the settings of a stage before the last.
        model: model of the last stage.

    Attributes:
        run_dir: path of the run folder, which :meth:`fit` creates.
        rows: one row (name, settings, sizes, validation) for each finished training, in order.
        ranked: each trained model's ranking of the test split, by the ``key`` of the model's row;
            empty before :meth:`stage_rows`.
    """

    def __init__(self, config: RunConfig, model: GraphRecommender) -> None:
        super().__init__(config, model)
        self._temporary: TemporaryDirectory[str] | None = None
        self.ranked: dict[str, Ranked] = {}
        self._resume: tuple[Path | None] | None = None
        self._tried: list[dict[str, Any]] = []  # what the search for teachers has tried

    @property
    def run_dir(self) -> Path:
        """Path of the run folder. Raises RuntimeError before :meth:`fit`."""
        return self._run_folder.path

    def resume(self, path: Path | None = None) -> None:
        """Let :meth:`fit` resume an interrupted run.

        Args:
            path: the run folder; by default, the folder of the newest run with the same settings.
        """
        self._resume = (path,)

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], None] | None = None,
    ) -> tuple[float, dict[str, float]]:
        """Train every stage that the model needs.

        Args:
            train_data: RecBole's loader of training batches.
            valid_data: RecBole's validation loader.
            verbose: has no effect; RecBole passes it.
            saved: whether to keep the run folder; otherwise it is temporary.
            show_progress: whether to draw a progress bar for each epoch.
            callback_fn: function called after each validation, with epoch (from 0) and score.

        Returns:
            The best validation score of the last training, and all metrics of its epoch.

        Raises:
            InputError: if there is no validation data, a checkpoint to start from does not fit, or
                a training step does not fit into memory.
            RuntimeError: if the trainer was fitted before.
        """
        if self.folder is not None:
            raise RuntimeError("a trainer fits once: build the model and its trainer anew")
        if not valid_data:
            raise InputError(
                "no validation data: every stage is chosen on it; set eval_args.split so that "
                "the middle part is not empty"
            )
        memory.check_training(self.config, self.model)
        self._check_list(self.model, valid_data)
        folder = self._run_folder_of(train_data, valid_data, saved)
        self._open(folder, train_data, valid_data, show_progress, callback_fn)
        self._fit_stages()
        row = self.rows[-1]
        self.saved_model_file = str(folder.best_file(row["key"]))
        self.best_valid_result: dict[str, float] = row["valid"]
        self.best_valid_score: float = row["valid"][self.valid_metric]
        return self.best_valid_score, self.best_valid_result

    def refit(
        self, train_data: Any, valid_data: Any, earlier: StagedTrainer, *, show_progress: bool
    ) -> None:
        """Train every stage without validation, for the number of epochs that an earlier fit chose.

        The run folder is in the earlier fit's run folder (`RunFolder.for_refit`).

        Args:
            train_data: RecBole's loader of batches of train and validation interactions.
            valid_data: RecBole's validation loader; only the hash of its interactions is used.
            earlier: trainer of the same run, after its :meth:`fit`.
            show_progress: whether to draw a progress bar for each epoch.
        """
        self._chosen = {row["key"]: row for row in earlier.rows}
        data = fingerprints(train_data, valid_data)
        folder = RunFolder.for_refit(earlier.run_dir, self.config, data)
        self._open(folder, train_data, valid_data, show_progress, None)
        self._fit_stages()
        self.saved_model_file = str(folder.best_file(self.rows[-1]["key"]))

    def _fit_stages(self) -> None:
        if isinstance(self.model, LightGNN):
            self._fit_student(self.model)
        elif isinstance(self.model, PrunedRecommender):
            self._fit_in_runs(self.model)
        else:
            self._fit_alone(self.model)

    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> dict[str, float] | None:
        """Compute the last model's metrics on a split, not rounded; ``None`` without data.

        Args:
            eval_data: RecBole's loader of the split.
            load_best_model: whether to load a checkpoint first.
            model_file: the checkpoint; by default, the best of the last training.
            show_progress: has no effect; RecBole passes it.

        Raises:
            InputError: if the checkpoint does not fit the model.
        """
        if not eval_data:
            return None
        if load_best_model:
            path = model_file or self.saved_model_file
            saved = CheckpointModel.read(path, self.config, self._data)
            saved.expect(self.config["model"], "model_file")
            saved.expect_encoding(self.config)
            saved.load_into(self.model)
        self.model.eval()
        return self._rank(self.model, eval_data).metrics

    def stage_rows(self, test_data: Any) -> list[Row]:
        """Test the best checkpoint of every training; return all rows, the final model's last.

        After :meth:`refit`, the rows have the epochs and validation of the earlier fit.
        """
        self.ranked = {row["key"]: rank(test_data) for row, rank in self._trained}
        rows = []
        for row in self.rows:
            key = row["key"]
            ranked = self.ranked[key]
            row = refit_row(row, self._chosen[key]) if self._chosen else row
            rows.append(row | {"test": ranked.metrics, "test_seconds": ranked.seconds})
        return rows

    def _run_folder_of(self, train_data: Any, valid_data: Any, saved: bool) -> RunFolder:
        """Open the folder to resume, or create one (a temporary one unless ``saved``)."""
        data = fingerprints(train_data, valid_data)
        if self._resume is not None:
            return RunFolder.reopen(self.config, data, *self._resume)
        base = self.config["checkpoint_dir"]
        if not saved:
            self._temporary = TemporaryDirectory(prefix="lightgnn-")
            base = self._temporary.name
        return RunFolder.create(Path(base), self.config, data)

    def _fit_student(self, model: LightGNN) -> None:
        """Train the earlier stages, then the student."""
        source = self._intermediate() if self.settings.flag("use_intermediate") else self._teacher()
        self._distill(self.config, model, source)
        self._fit_in_runs(model)

    def _fit_in_runs(self, model: PrunedRecommender) -> None:
        """Train a model once unpruned, and again after each pruning."""
        last_run = self.settings.integer("n_pruning_runs")
        for run in range(last_run + 1):
            label = Label("student", run, last_run)
            self._seed(label)
            if run:
                model.prune()
            model.begin_run(run)
            self._fit(label, self.config, model)

    def _fit_alone(self, model: GraphRecommender) -> None:
        """Train a model that is not pruned, after loading or training its teacher, if any."""
        name = self.settings.text("model")
        label = Label(_STAGE.get(name, name))
        if isinstance(model, TaughtRecommender):
            teacher = self._teacher()
            self._seed(label)
            self._distill(self.config, model, teacher)
        else:
            self._seed(label)
        self._fit(label, self.config, model)

    def _distill(self, config: RunConfig, model: TaughtRecommender, source: Any) -> None:
        """Set the model's teacher; initialize from it if the settings say so."""
        teacher = FrozenTeacher(source, scale=config["teacher_scale"])
        prefix = "" if config is self.config else "intermediate_settings."
        model.distill_from(teacher, prefix=prefix)
        model.begin_from(teacher)

    def _intermediate(self) -> LightGNNIntermediate:
        """Load the intermediate model from a checkpoint, or train it after its teacher."""
        label = Label("intermediate")
        if path := self.settings.optional_text("intermediate_checkpoint"):
            loaded: LightGNNIntermediate = self._from_checkpoint(label, path, INTERMEDIATE)
            return loaded
        # Built before the teacher is trained, so that an error in the settings is raised first.
        config = self.config.stage(INTERMEDIATE, self.settings.section("intermediate_settings"))
        teacher = self._teacher()
        self._seed(label)
        model: LightGNNIntermediate = self._build(config)
        self._distill(config, model, teacher)
        self._fit(label, config, model)
        return model

    def _teacher(self) -> Any:
        """Load or train the teacher; several teachers are combined into an ensemble."""
        paths = self.settings.texts("teacher_checkpoint")
        teachers = self._teachers(len(paths))
        if searches_teachers(self.settings):
            teachers = self._found_teachers()
        elif not paths:
            self._check_untrained_teachers(teachers)
            self._check_weights(teachers)
        last = len(teachers) - 1
        members = []
        for number, teacher in enumerate(teachers):
            # The first teacher has no number, so that its key is that of a single teacher.
            label = Label("teacher", number or None, last)
            if paths:
                members.append(self._from_checkpoint(label, paths[number], teacher.model))
            else:
                members.append(self._train_teacher(label, teacher))
        if self._tried:
            self._trained[-len(members)][0]["search"] = self._tried
        return self._ensemble(members, teachers) if len(members) > 1 else members[0]

    def _found_teachers(self) -> list[Teacher]:
        """Search for the teachers; a refit takes those that the first training found."""
        folder = self._run_folder
        if self._chosen:
            folder = RunFolder(folder.path.parent)
        search = TeacherSearch(self, folder, self._valid_data)
        teachers = search.run()
        self._tried = search.tried()
        return teachers

    def train_trial(self, label: Label, config: RunConfig, data: Any) -> tuple[Any, dict[str, Any]]:
        """Train a model for `TeacherSearch`; see `Host`. A RecBole model is computed at once."""
        self._seed(label)
        model = self._build(config)
        if not isinstance(model, GraphRecommender):
            return model.eval(), {}
        loader = self._loaders.of(config, self._seed_of(label))
        result = self._training(label, config, model, data).fit(loader)
        return model, result

    def load_trial(self, label: Label, config: RunConfig) -> Any:
        """Rebuild a trial's model from its checkpoint, for `TeacherSearch`."""
        model = self._build(config)
        model.load_state_dict(checkpoint.load(self._run_folder.best_file(label.key))[0])
        return model.eval()

    def adopt_trial(self, model: Any, label: Label, teacher: Teacher, result: Any) -> None:
        """Make the model of a trial a finished teacher of this run, for `TeacherSearch`."""
        config, folder = self._config_of(teacher), self._run_folder
        if folder.row(label.key) is None:
            valid = self.validation(model)
            meta = self._meta(label, config) | {"epoch": result["best_epoch"], "valid": valid}
            checkpoint.save(folder.best_file(label.key), model.state_dict(), meta)
            # The trial was validated in its last epoch alone, perhaps on some of the users.
            curve = {**result["curve"], "score": [valid[self.valid_metric]]}
            result = {**result, "valid": valid, "curve": curve}
            folder.finish(self._row(label, config, model, result))

    def _teachers(self, n_paths: int) -> list[Teacher]:
        """List the teachers that the settings describe, one for each checkpoint if there are any.

        Raises:
            InputError: if the numbers of checkpoints and of ``teachers`` differ.
        """
        teachers = teachers_of(self.settings)
        if not n_paths or n_paths == len(teachers):
            return teachers
        if self.settings["teachers"]:
            raise InputError(
                f"teacher_checkpoint has {n_paths} files, and teachers lists {len(teachers)}: give "
                "one file for each of them"
            )
        return teachers[:1] * n_paths

    def _check_untrained_teachers(self, teachers: list[Teacher]) -> None:
        """Raise InputError before the training if a teacher lacks the tables that are needed."""
        if isinstance(self.model, TaughtRecommender) and self.model.needs_teacher_tables:
            built = [self._build(self._config_of(teacher)).eval() for teacher in teachers]
            self.model.check_untrained_teacher(built[0] if len(built) == 1 else Ensemble(built))

    def _check_weights(self, teachers: list[Teacher]) -> None:
        """Raise InputError before the training if validation cannot choose the weights."""
        metric = self.settings.text("valid_metric")
        chosen = any(teacher.weight is None for teacher in teachers)
        if chosen and not self._chosen and not can_choose(self._valid_data, metric):
            choose_weights([], self._valid_data, metric)

    def _config_of(self, teacher: Teacher) -> RunConfig:
        return self.config.stage(teacher.model, teacher.settings)

    def _ensemble(self, members: list[Any], teachers: list[Teacher]) -> Ensemble:
        """Combine several teachers into an ensemble, with a row of its own in the record.

        Teachers with weight 0 are left out.
        """
        given = [teacher.weight for teacher in teachers]
        weights = [weight for weight in given if weight is not None]
        if len(weights) < len(members):
            weights = self._weights(members)
            self.logger.info(set_color(f"weights of the teachers: {weights}", "green"))
        kept = [number for number, weight in enumerate(weights) if weight]
        ensemble = Ensemble([members[n] for n in kept], [weights[n] for n in kept])
        member_rows = [self.rows[-len(members) :][number] for number in kept]
        rank = partial(self._rank, ensemble)
        row: Row = {"key": "teachers", "stage": "teacher", "run": None, "model": "Ensemble"}
        row |= {key: member_rows[0][key] for key in ("interactions", "interactions_kept")}
        for key in ("entries", "parameters", "bytes"):  # earlier versions had no parameters
            row[key] = sum(member.get(key, member["entries"]) for member in member_rows)
        row |= {"entries_kept": 1.0, "seconds": 0.0, "epochs": 0, "best_epoch": 0}
        row["weights"] = weights
        valid = {} if self._chosen else rank(self._valid_data).metrics
        self._trained.append((row | {"valid": valid}, rank))
        return ensemble

    def _weights(self, members: list[Any]) -> list[float]:
        """Choose the weights of the teachers on validation; a refit takes the chosen ones."""
        if self._chosen:
            chosen: list[float] = self._chosen["teachers"]["weights"]
            return chosen
        frozen = [FrozenTeacher(member) for member in members]
        return choose_weights(frozen, self._valid_data, self.settings.text("valid_metric"))

    def _train_teacher(self, label: Label, teacher: Teacher) -> Any:
        self._seed(label)
        config = self._config_of(teacher)
        started = perf_counter()
        model = self._build(config)
        self._check_list(model, self._valid_data)
        if isinstance(model, GraphRecommender):
            self._fit(label, config, model)
        else:
            self._fit_recbole(label, config, model, build_seconds=perf_counter() - started)
        return model
