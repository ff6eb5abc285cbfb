"""An ablation of LightGNN: train variants of the model, each with some settings changed.

The first variant is the whole recipe: all settings unchanged. Every variant is trained through all
its pruning runs. If a variant's changes do not affect a stage, the variant uses that stage of the
whole recipe instead of training it again.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from recbole_lightgnn.config.aliases import renamed
from recbole_lightgnn.config.files import STAGE_SETTINGS, defaults_of, merge, nested, read_yaml
from recbole_lightgnn.config.settings_diff import other_settings, settings_of
from recbole_lightgnn.config.teachers import searches_teachers
from recbole_lightgnn.config.unheeded import shared_stages
from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.errors import InputError, in_a_line
from recbole_lightgnn.registry import INTERMEDIATE, STUDENT
from recbole_lightgnn.runs.run_folder import RUN_FILE, RunFolder
from recbole_lightgnn.utils.files import check_folder, plain, read_json, write_json

WHOLE = "all"  # name of the whole recipe: the variant without a change
STUDY_FILE, RESULTS_FILE = "study.json", "ablation.json"
METRICS = ("recall@20", "ndcg@20", "recall@40", "ndcg@40")
_MEAN = "mean"
_OF_TEACHERS = ("teacher", "teacher_settings", "n_teachers", "teachers")
_QUIET = {"state": "warning", "show_progress": False}


@dataclass(frozen=True)
class Variant:
    """One variant of the recipe, which becomes a row of the ablation's table.

    Attributes:
        name: name of the variant, in words.
        changes: changed settings and their values, with flat names such as
            ``teacher_settings.epochs``.
    """

    name: str
    changes: dict[str, Any]

    @property
    def file_name(self) -> str:
        """The name, for use in a file name: lower case, with ``-`` for special characters."""
        return "".join(c if c.isalnum() else "-" for c in self.name.lower())

    def touches(self, *keys: str) -> bool:
        """Whether the variant changes at least one of the given settings.

        Args:
            keys: names of settings. The name ``teacher_settings`` or ``intermediate_settings``
                stands for every setting of that stage.
        """
        return any(key.partition(".")[0] in keys for key in self.changes)


def read_variants(file: Path, only: Sequence[str] = ()) -> list[Variant]:
    """Read the variants of a yaml file.

    Args:
        file: yaml file with lines ``name: {setting: value}``.
        only: names of the variants to return; empty for all.

    Returns:
        The whole recipe, then the variants of the file.

    Raises:
        InputError: if the file has no variant, if it lacks a variant of ``only``, if a line does
            not have this form, or if two variants would have the same file name.
    """
    content = read_yaml(file)
    for name, changes in content.items():
        if not isinstance(changes, dict) or not changes or name == WHOLE:
            raise InputError(
                f"{file}: {name!r} must be a variant's name, other than {WHOLE!r}, with the "
                f"settings that it changes, got {changes!r}"
            )
    found = [Variant(str(name), dict(changes)) for name, changes in content.items()]
    _check_file_names(file, found)
    if unknown := set(only) - {variant.name for variant in found}:
        names = ", ".join(repr(variant.name) for variant in found)
        raise InputError(f"--only: {file} has no variant {unknown.pop()!r}; it has {names}")
    if not found:
        raise InputError(f"{file} has no variant")
    return [Variant(WHOLE, {}), *(v for v in found if not only or v.name in only)]


def _check_file_names(file: Path, variants: Sequence[Variant]) -> None:
    """Raise InputError if two variants, or a variant and the study, would write the same file."""
    owners = dict.fromkeys(
        (WHOLE, *(Path(n).stem for n in (STUDY_FILE, RESULTS_FILE))), "the study"
    )
    for variant in variants:
        if owner := owners.get(variant.file_name):
            raise InputError(
                f"{file}: {variant.name!r} and {owner} would have one file, "
                f"{variant.file_name}.json: rename it"
            )
        owners[variant.file_name] = repr(variant.name)


class Ablation:
    """The runs of all variants, with all results in one folder; a finished run is not repeated.

    The folder holds ``study.json`` (settings and variants) and ``ablation.json`` (results). For
    each variant, it holds a record ``NAME.json`` and the checkpoints in ``runs/NAME``.

    Args:
        dataset: name of the dataset; ``None`` for the default of the command ``run``.
        config_files: yaml files of settings, as for the command ``run``.
        settings: settings of every variant, which override the files.
        variants: the variants, with the whole recipe first. A variant is left out if its changes
            have no effect on the settings in force.
        out: path of the folder.

    Attributes:
        dataset, config_files, out: as given.
        settings: settings of every variant; those of the teacher and of the intermediate model are
            nested in mappings.
        fingerprint: counts and hashes of the data's splits.
        variants: variants that are trained.

    Raises:
        InputError: if a setting or the dataset cannot be used, or if the folder belongs to a study
            with other settings or data. The error is raised before any training.
    """

    def __init__(
        self,
        dataset: str | None,
        *,
        config_files: Sequence[Path | str],
        settings: Mapping[str, Any],
        variants: Sequence[Variant],
        out: Path,
    ) -> None:
        from recbole_lightgnn.quick_start import configure, fingerprint_of

        self.dataset, self.config_files, self.out = dataset, config_files, out
        self.settings = nested({**_QUIET, **settings})
        check_folder("--out", out, out)
        whole = configure(STUDENT, dataset, config_files=config_files, settings=self.settings)
        if searches_teachers(whole.final_config_dict):  # each variant would search
            self.settings["recipe"] = "default"
            whole = configure(STUDENT, dataset, config_files=config_files, settings=self.settings)
        self._fits_temperature = whole["prediction_kd_temperature"] is None
        self.fingerprint = plain(fingerprint_of(whole))
        self.variants, trained_with = [], []
        for variant in variants:
            with shared_stages():
                changed = configure(
                    STUDENT, dataset, config_files=config_files, settings=self._settings(variant)
                )
            if variant.name == WHOLE or _in_force(changed) != _in_force(whole):
                self.variants.append(variant)
                trained_with.append(settings_of(changed))
        self._use_intermediate = whole["use_intermediate"]
        study = self._study()
        for variant, its_settings in zip(self.variants, trained_with, strict=True):
            self._check_record(variant, its_settings)
        write_json(out / STUDY_FILE, study)

    def run(self, tell: Callable[[str], None]) -> dict[str, str]:
        """Train all variants that are not finished.

        An error in the whole recipe is raised. If another variant fails, the next one is trained.

        Args:
            tell: function called with one line of text when a variant begins, and when a variant
                fails.

        Returns:
            The reason of each failure, by name of the variant.
        """
        failed = {}
        for number, variant in enumerate(self.variants, start=1):
            if self._record(variant) is not None:
                continue
            tell(f"{number}/{len(self.variants)} {variant.name}")
            try:
                self._run(variant)
            except Exception as error:  # for example when memory runs out
                if variant.name == WHOLE:
                    raise
                failed[variant.name] = reason = in_a_line(error)
                tell(f"{number}/{len(self.variants)} {variant.name} failed: {reason}")
        return failed

    def results(self) -> list[dict[str, Any]]:
        """Return ``variant`` (the name), ``changes`` and ``record`` of each finished variant."""
        return [
            {"variant": variant.name, "changes": variant.changes, "record": record}
            for variant in self.variants
            if (record := self._record(variant)) is not None
        ]

    def _settings(self, variant: Variant) -> dict[str, Any]:
        settings = copy.deepcopy(self.settings)
        if self._fits_temperature and variant.changes.get("batch_by") == "interaction":
            settings["prediction_kd_temperature"] = defaults_of(STUDENT)[
                "prediction_kd_temperature"
            ]
        merge(settings, nested(variant.changes))
        return settings

    def _run(self, variant: Variant) -> None:
        from recbole_lightgnn.quick_start import run

        folder = self.out / "runs" / variant.file_name
        settings = self._settings(variant) | {"checkpoint_dir": str(folder)}
        if variant.name != WHOLE:
            settings |= self._shared(variant)
        with shared_stages():
            run(
                STUDENT,
                self.dataset,
                config_files=self.config_files,
                settings=settings,
                resume=any(folder.glob(f"*/{RUN_FILE}")),
                result_file=self._file(variant),
            )

    def _shared(self, variant: Variant) -> dict[str, Any]:
        """Return the settings that make a variant reuse trained stages: paths of their checkpoints.

        Empty if the variant changes the teacher, or if the user gave a checkpoint.
        """
        if variant.touches(*_OF_TEACHERS, "recipe", "ablation"):
            return {}
        (whole,) = (self.out / "runs" / WHOLE).glob(f"*/{RUN_FILE}")
        folder = RunFolder(whole.parent)
        stage = "teacher"
        if self._use_intermediate and not variant.touches(
            "intermediate_settings", "use_intermediate"
        ):
            stage = "intermediate"
        files = [
            file
            for row in folder.rows
            if row["stage"] == stage
            for file in folder.path.glob(f"{row['key']}.*")
        ]
        if not files:
            return {}
        shared = {f"{stage}_checkpoint": list(map(str, files)) if files[1:] else str(files[0])}
        # A run accepts only one of the two settings: the later stage's checkpoint is enough.
        return {"teacher_checkpoint": None} | shared

    def _record(self, variant: Variant) -> dict[str, Any] | None:
        """Return a variant's record, with present names of settings; ``None`` if unfinished."""
        record: dict[str, Any] | None = read_json(self._file(variant))
        return record and record | {"settings": renamed(record["settings"])}

    def _check_record(self, variant: Variant, settings: Mapping[str, Any]) -> None:
        """Raise InputError if a variant's record was made with other settings or other data."""
        if (record := self._record(variant)) is None:
            return
        recorded = record["settings"]
        common = settings.keys() & recorded.keys()  # an earlier version had fewer settings
        common -= {"teacher_checkpoint", "intermediate_checkpoint"}  # set by `_shared`
        other = other_settings(
            *({key: each[key] for key in common} for each in (settings, recorded))
        )
        data = {k: v for k, v in record["dataset_fingerprint"].items() if k != "card_sha256"}
        other += ["interactions"] if data != self.fingerprint else []
        if other:
            raise InputError(
                f"{self._file(variant)} is the record of a run with other {', '.join(other)}: "
                f"remove it to run {variant.name!r} anew, or name another --out"
            )

    def _file(self, variant: Variant) -> Path:
        return self.out / f"{variant.file_name}.json"

    def _study(self) -> dict[str, Any]:
        """Make the content of ``study.json``: this study, and the variants trained before.

        Raises:
            InputError: if the folder belongs to a study with other settings or data.
        """
        study: dict[str, Any] = plain({
            "dataset": self.dataset,
            "settings": self.settings,
            "dataset_fingerprint": self.fingerprint,
            "variants": {variant.name: variant.changes for variant in self.variants},
        })  # fmt: skip
        before = study | self._study_before()
        words = {"dataset": "dataset", "dataset_fingerprint": "interactions"}
        differing = [word for key, word in words.items() if study[key] != before[key]]
        differing += ["settings"] if other_settings(study["settings"], before["settings"]) else []
        known = before["variants"]
        differing += [
            f"changes of {name!r}"
            for name, changes in study["variants"].items()
            if known.get(name, changes) != changes
        ]
        if differing:
            raise InputError(
                f"--out {self.out} holds a study of other {' and '.join(differing)}: give the "
                "command it was begun with, or another folder"
            )
        return study | {"variants": known | study["variants"]}

    def _study_before(self) -> dict[str, Any]:
        """Read ``study.json`` with present names of settings; empty if the file is missing."""
        study: dict[str, Any] = read_json(self.out / STUDY_FILE) or {}
        if "settings" in study:
            study["settings"] = renamed(study["settings"])
        if "variants" in study:
            study["variants"] = {name: renamed(one) for name, one in study["variants"].items()}
        return study


def compact(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Make the content of ``ablation.json``: accuracy, sizes and times of every trained model.

    Args:
        results: what `Ablation.results` returned.

    Returns:
        One mapping per variant. Its ``rows`` are the variant's teachers, intermediate model and
        students.
    """
    return [
        {"variant": result["variant"], "changes": result["changes"], **_compact(result["record"])}
        for result in results
    ]


def _compact(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{key: record[key] for key in ("dataset", "seed", "masking", "environment")},
        "train_sha256": record["dataset_fingerprint"]["train"]["sha256"],
        "rows": [_compact_row(row) for row in record["rows"]],
    }


def _compact_row(row: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("key", "model", "entries_kept", "interactions_kept", "bytes", "seconds")
    metrics = {
        split: {name: row[split][name] for name in METRICS if name in row[split]}
        for split in ("valid", "test")
    }
    return {**{key: row[key] for key in keys}, **metrics}


def markdown(results: Sequence[Mapping[str, Any]], split: str, metric: str = METRICS[0]) -> str:
    """Make a Markdown table of the accuracy of each variant's teacher and students.

    The first row has the accuracy of the whole recipe. Every other row has a variant's differences
    from the first row, multiplied by 10^4.

    Args:
        results: what `compact` returned, with the whole recipe first.
        split: ``valid`` or ``test``.
        metric: name of the metric.
    """
    first = results[0]
    whole = {row["key"]: row for row in first["rows"]}
    keys = [key for key in whole if key.startswith("student")]
    kept = [f"{whole[k]['entries_kept']:.2f} / {whole[k]['interactions_kept']:.2f}" for k in keys]
    split_name = {"valid": "validation"}.get(split, split)
    lines = [
        f"{metric} on {first['dataset']}, {split_name}, seed {first['seed']}; the other rows are "
        "differences from the first row, times 10^4",
        "",
        "| entries / interactions kept | teacher | " + " | ".join(kept) + " | mean of students |",
        "|---" * (len(keys) + 3) + "|",
    ]
    base = _by_column(first, split, metric)
    for result in results:
        values = _by_column(result, split, metric)
        cells = [
            "" if column not in values or column not in base
            else f"{values[column]:.4f}" if result is first
            else f"{(values[column] - base[column]) * 1e4:+.0f}"
            for column in ("teacher", *keys, _MEAN)
        ]  # fmt: skip
        lines.append(f"| {result['variant']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _by_column(result: Mapping[str, Any], split: str, metric: str) -> dict[str, float]:
    """Return a variant's accuracy by column: teacher (or ensemble), students, mean of students."""
    found = {}
    for row in result["rows"]:
        column = "teacher" if row["key"].startswith("teacher") else row["key"]
        found[column] = row[split][metric]
    return found | {
        _MEAN: fmean(value for key, value in found.items() if key.startswith("student"))
    }


def _in_force(config: RunConfig) -> dict[str, Any]:
    """Return all settings that affect a run's results, including settings of its earlier stages."""
    stages = {}
    if not (config["teacher_checkpoint"] or config["intermediate_checkpoint"]):
        stages["teacher_settings"] = config["teacher"]
    if config["use_intermediate"] and not config["intermediate_checkpoint"]:
        stages["intermediate_settings"] = INTERMEDIATE
    unused = {*STAGE_SETTINGS} | (set() if "teacher_settings" in stages else {"n_teachers"})
    used = {key: value for key, value in settings_of(config).items() if key not in unused}
    return used | {
        key: settings_of(config.stage(model, config[key] or {})) for key, model in stages.items()
    }
