"""An ablation: one ingredient changed at a time, every pruning run, in a table.

Stages that a variant does not touch are those of the whole recipe: they are trained once.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from recbole_lightgnn.config.files import STAGE_SETTINGS, merge, nested, read_yaml
from recbole_lightgnn.config.schema import INTERMEDIATE, STUDENT
from recbole_lightgnn.config.settings_diff import other_settings, settings_of
from recbole_lightgnn.errors import InputError, in_a_line
from recbole_lightgnn.runs.run_folder import RUN_FILE, RunFolder
from recbole_lightgnn.utils.files import check_folder, plain, read_json, write_json

WHOLE = "all"  # the name of the recipe that nothing is changed of
STUDY_FILE, RESULTS_FILE = "study.json", "ablation.json"
METRICS = ("recall@20", "ndcg@20", "recall@40", "ndcg@40")
_MEAN = "mean"
_QUIET = {"state": "warning", "show_progress": False}


@dataclass(frozen=True)
class Variant:
    """One row of the study.

    Attributes:
        name: what is changed, in words; its file is named after it.
        changes: settings, flat.
    """

    name: str
    changes: dict[str, Any]

    @property
    def file_name(self) -> str:
        """The name, for files."""
        return "".join(c if c.isalnum() else "-" for c in self.name.lower())

    def touches(self, *keys: str) -> bool:
        """Whether one of these settings, or a setting within them, is changed."""
        return any(key.partition(".")[0] in keys for key in self.changes)


def read_variants(file: Path, only: Sequence[str] = ()) -> list[Variant]:
    """The variants of a yaml file, after the whole recipe.

    Args:
        file: lines ``name: {setting: value}``.
        only: names to take; all, where empty.

    Raises:
        InputError: if the file has none, or not one of those asked for, or is of another form, or
            if two would have one file.
    """
    content = read_yaml(file)
    for name, changes in content.items():
        if not isinstance(changes, dict) or not changes or name == WHOLE:
            raise InputError(
                f"{file}: {name!r} must be a variant's name, other than {WHOLE!r}, with the "
                f"settings that it changes, got {changes!r}"
            )
    found = [Variant(str(name), dict(changes)) for name, changes in content.items()]
    owners = dict.fromkeys(
        (WHOLE, *(Path(n).stem for n in (STUDY_FILE, RESULTS_FILE))), "the study"
    )
    for variant in found:
        if owner := owners.get(variant.file_name):
            raise InputError(
                f"{file}: {variant.name!r} and {owner} would have one file, "
                f"{variant.file_name}.json: rename it"
            )
        owners[variant.file_name] = repr(variant.name)
    if unknown := set(only) - {variant.name for variant in found}:
        names = ", ".join(repr(variant.name) for variant in found)
        raise InputError(f"--only: {file} has no variant {unknown.pop()!r}; it has {names}")
    if not found:
        raise InputError(f"{file} has no variant")
    return [Variant(WHOLE, {}), *(v for v in found if not only or v.name in only)]


class Ablation:
    """Runs of one student's variants, kept in a folder: a finished one is never run again.

    Args:
        dataset: name of a dataset.
        config_files: as for `recbole_lightgnn.quick_start.run`.
        settings: those of every variant, stronger than the files.
        variants: the whole recipe first.
        out: the folder; ``NAME.json`` is a variant's record, ``runs/NAME`` its checkpoints.

    Raises:
        InputError: if a setting or the dataset cannot be used, or if the folder is of another
            study; nothing has been trained then.
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
        self.fingerprint = plain(fingerprint_of(whole))
        self.variants, trained_with = [], []
        for variant in variants:
            changed = configure(
                STUDENT, dataset, config_files=config_files, settings=self._settings(variant)
            )
            if variant.name == WHOLE or _in_force(changed) != _in_force(whole):
                self.variants.append(variant)
                trained_with.append(settings_of(changed))
        self._use_intermediate = whole["use_intermediate"]
        study = self._study()
        for variant, own in zip(self.variants, trained_with, strict=True):
            self._check_record(variant, own)
        write_json(out / STUDY_FILE, study)

    def run(self, tell: Callable[[str], None]) -> dict[str, str]:
        """Run what is not finished.

        Args:
            tell: called with a line about each variant as it begins, and as it fails.

        Returns:
            Why each variant that failed did. Those after it have been run all the same, but not
            without the whole recipe.
        """
        failed = {}
        for number, variant in enumerate(self.variants, start=1):
            if self._record(variant) is not None:
                continue
            tell(f"{number}/{len(self.variants)} {variant.name}")
            try:
                self._run(variant)
            except Exception as error:  # memory that torch does not get, for one
                if variant.name == WHOLE:
                    raise
                failed[variant.name] = reason = in_a_line(error)
                tell(f"{number}/{len(self.variants)} {variant.name} failed: {reason}")
        return failed

    def results(self) -> list[dict[str, Any]]:
        """What is finished: a variant's name, its changes and its record, in order."""
        return [
            {"variant": variant.name, "changes": variant.changes, "record": record}
            for variant in self.variants
            if (record := self._record(variant)) is not None
        ]

    def _settings(self, variant: Variant) -> dict[str, Any]:
        settings = copy.deepcopy(self.settings)
        merge(settings, nested(variant.changes))
        return settings

    def _run(self, variant: Variant) -> None:
        from recbole_lightgnn.quick_start import run

        folder = self.out / "runs" / variant.file_name
        settings = self._settings(variant) | {"checkpoint_dir": str(folder)}
        if variant.name != WHOLE:
            settings |= self._shared(variant)
        run(
            STUDENT,
            self.dataset,
            config_files=self.config_files,
            settings=settings,
            resume=any(folder.glob(f"*/{RUN_FILE}")),
            result_file=self._file(variant),
        )

    def _shared(self, variant: Variant) -> dict[str, Any]:
        """The whole recipe's stages that a variant has in common with it, as settings.

        A stage that was given to it as a checkpoint is given to the variant too.
        """
        if variant.touches("teacher", "teacher_settings", "n_teachers", "recipe", "ablation"):
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
        return {"teacher_checkpoint": None} | shared  # two would be one too many

    def _record(self, variant: Variant) -> dict[str, Any] | None:
        record: dict[str, Any] | None = read_json(self._file(variant))
        return record

    def _check_record(self, variant: Variant, settings: Mapping[str, Any]) -> None:
        """Raise InputError if the record there is of other settings than these, or other data."""
        if (record := self._record(variant)) is None:
            return
        own = settings.keys() & record["settings"].keys()  # an older version had fewer
        own -= {"teacher_checkpoint", "intermediate_checkpoint"}  # of `_shared`
        ours, theirs = ({key: of[key] for key in own} for of in (settings, record["settings"]))
        other = other_settings(ours, theirs)
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
        """What the folder is to say of itself, with the variants that it has already.

        Raises:
            InputError: if it is another study's.
        """
        study = plain({
            "dataset": self.dataset,
            "settings": self.settings,
            "dataset_fingerprint": self.fingerprint,
            "variants": {variant.name: variant.changes for variant in self.variants},
        })  # fmt: skip
        theirs = study | (read_json(self.out / STUDY_FILE) or {})
        words = {"dataset": "dataset", "dataset_fingerprint": "interactions"}
        differing = [word for key, word in words.items() if study[key] != theirs[key]]
        differing += ["settings"] if other_settings(study["settings"], theirs["settings"]) else []
        known = theirs["variants"]
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


def compact(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What of the results is worth keeping: a row a training, without what all have in common.

    Args:
        results: of `Ablation.results`.
    """
    kept = ("key", "model", "entries_kept", "interactions_kept", "bytes", "seconds")
    return [
        {
            "variant": one["variant"],
            "changes": one["changes"],
            **{key: record[key] for key in ("dataset", "seed", "masking", "environment")},
            "train_sha256": record["dataset_fingerprint"]["train"]["sha256"],
            "rows": [
                {
                    **{key: row[key] for key in kept},
                    **{
                        s: {m: row[s][m] for m in METRICS if m in row[s]} for s in ("valid", "test")
                    },
                }
                for row in record["rows"]
            ],
        }
        for one in results
        for record in [one["record"]]
    ]


def markdown(results: Sequence[Mapping[str, Any]], split: str, metric: str = METRICS[0]) -> str:
    """A table: accuracy of the teacher and of every student; differences from the recipe's.

    Args:
        results: of `compact`, the whole recipe first.
        split: ``valid``, by which to choose, or ``test``.
        metric: the accuracy.
    """
    whole = {row["key"]: row for row in results[0]["rows"]}
    keys = [key for key in whole if key.startswith("student")]
    kept = [f"{whole[k]['entries_kept']:.2f} / {whole[k]['interactions_kept']:.2f}" for k in keys]
    first, of = results[0], {"valid": "validation"}.get(split, split)
    lines = [
        f"{metric} on {first['dataset']}, {of}, seed {first['seed']}; below the first row, "
        "differences from it, times 10^4",
        "",
        "| entries / interactions kept | teacher | " + " | ".join(kept) + " | mean of these |",
        "|---" * (len(keys) + 3) + "|",
    ]
    base = _by_column(first, split, metric)
    for one in results:
        values = _by_column(one, split, metric)
        cells = [
            "" if column not in values or column not in base
            else f"{values[column]:.4f}" if one is first
            else f"{(values[column] - base[column]) * 1e4:+.0f}"
            for column in ("teacher", *keys, _MEAN)
        ]  # fmt: skip
        lines.append(f"| {one['variant']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _by_column(result: Mapping[str, Any], split: str, metric: str) -> dict[str, float]:
    """A result's accuracy by student, their mean, and of its teacher: of several, their sum, the
    last row."""
    found = {}
    for row in result["rows"]:
        column = "teacher" if row["key"].startswith("teacher") else row["key"]
        found[column] = row[split][metric]
    return found | {
        _MEAN: fmean(value for key, value in found.items() if key.startswith("student"))
    }


def _in_force(config: Any) -> dict[str, Any]:
    """A run's settings, those of the earlier stages that it trains as they come to be."""
    stages = {}
    if not (config["teacher_checkpoint"] or config["intermediate_checkpoint"]):
        stages["teacher_settings"] = config["teacher"]
    if config["use_intermediate"] and not config["intermediate_checkpoint"]:
        stages["intermediate_settings"] = INTERMEDIATE
    unused = {*STAGE_SETTINGS} | (set() if "teacher_settings" in stages else {"n_teachers"})
    own = {key: value for key, value in settings_of(config).items() if key not in unused}
    return own | {
        key: settings_of(config.stage(model, config[key] or {})) for key, model in stages.items()
    }
