"""One call that trains, tests and records any model, RecBole's or ours; one that only chooses."""

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from logging import FileHandler, StreamHandler, getLogger
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.trainer import Trainer
from recbole.utils import get_model, get_trainer, init_logger, init_seed, set_color

from recbole_lightgnn.config.files import read_yaml
from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.fingerprint import fingerprints
from recbole_lightgnn.data.loaders import card_hash, check_dataset_files, fingerprint, load_data
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.integration.accelerate import accelerate_model
from recbole_lightgnn.integration.eval_mask import mask_in_force
from recbole_lightgnn.registry import model_names, our_models
from recbole_lightgnn.runs.record import environment, make_record
from recbole_lightgnn.runs.run_folder import RunFolder
from recbole_lightgnn.runs.user_metrics import users_file, write_users
from recbole_lightgnn.trainer.evaluation import Ranked, metrics_by_user
from recbole_lightgnn.trainer.recbole_evaluation import has_epochs, rank_by_tables, ranked_by
from recbole_lightgnn.trainer.recbole_resume import RESUMABLE, StockProgress, can_resume
from recbole_lightgnn.trainer.record_rows import epochs_of, size_row
from recbole_lightgnn.trainer.training import stock_errors_explained
from recbole_lightgnn.utils.allocator import keep_freed_memory
from recbole_lightgnn.utils.files import check_writable, write_json
from recbole_lightgnn.utils.text import did_you_mean


class Interrupted(KeyboardInterrupt):
    """A run was stopped by hand.

    Attributes:
        run_dir: the run folder to resume from; none where nothing can be resumed.
    """

    def __init__(self, run_dir: Path | None) -> None:
        super().__init__()
        self.run_dir = run_dir


def run(
    model: str | None = None,
    dataset: str | None = None,
    *,
    config_files: Iterable[Path | str] = (),
    settings: Mapping[str, Any] | None = None,
    resume: Path | str | bool | None = None,
    result_file: Path | str | None = None,
) -> dict[str, Any]:
    """Train a model, choose by validation, test what was chosen, and write the record.

    Beside the record goes, where all items were ranked, the metrics of every test user
    (`recbole_lightgnn.runs.user_metrics`).

    Args:
        model: name; by default what the config files say, or ``LightGNN``.
        dataset: name; by default what the config files say, or ``ml-100k``.
        config_files: RecBole's yaml files, the later ones stronger.
        settings: stronger than the files. ``{"teacher_settings.epochs": 3}`` reaches into a stage.
        resume: continue an interrupted run: its folder, or True for the latest one; our
            models, and `RESUMABLE` of RecBole's.
        result_file: where the record goes; by default the run folder (our models) or
            ``checkpoint_dir``.

    Returns:
        The record (see `make_record`), and under ``result_file`` where it was written.

    Raises:
        InputError: if a setting, the dataset or the checkpoint to resume cannot be used.
        Interrupted: if stopped by hand.
    """
    start = time.monotonic()
    config = configure(model, dataset, config_files=config_files, settings=settings)
    if result_file is not None:
        check_writable("result_file", Path(result_file))
    if resume and config["model"] not in our_models() and not can_resume(config):
        raise InputError(
            f"{config['model']} is RecBole's own and cannot be resumed (these can, without "
            f"worker processes: {', '.join(RESUMABLE)}); run it again from start"
        )
    with _own_log():
        return _run(config, resume, result_file, start)


def choose(
    model: str | None = None,
    dataset: str | None = None,
    *,
    config_files: Iterable[Path | str] = (),
    settings: Mapping[str, Any] | None = None,
    after_validation: Callable[[int, float], None] | None = None,
) -> dict[str, Any]:
    """Train a model and choose by validation, as `run` does, and stop there.

    No test interaction is ranked. Neither a record nor a checkpoint is left.

    Args:
        model, dataset, config_files, settings: as for `run`.
        after_validation: told, in training, of each epoch (from 1) that was validated and its
            score; what it raises ends the training. Of a model of several stages it hears all of
            them, of one of RecBole's that has no epochs nothing.

    Returns:
        ``score``, the validation score by ``valid_metric``; ``valid``, all validation metrics;
        and ``dataset_fingerprint``.

    Raises:
        InputError: as `run`; if the score is not a number.
    """
    config = configure(model, dataset, config_files=config_files, settings=settings)
    with _own_log():
        _start_log(config)
        (train_data, valid_data, _), fingerprint = _load(config)
        with _installed(config):
            trainer = _trainer(config, train_data)
            progress = StockProgress(
                trainer, train_data, None, config["model"], told=after_validation
            )
            valid = _fit(config, trainer, train_data, valid_data, progress, saved=False)
    metric = config["valid_metric"].lower()
    score = float(valid[metric])
    if not math.isfinite(score):
        raise InputError(f"the validation score, {metric}, is not a number: {score}")
    return {
        "score": score,
        "valid": {name: float(value) for name, value in valid.items()},
        "dataset_fingerprint": fingerprint,
    }


def configure(
    model: str | None = None,
    dataset: str | None = None,
    *,
    config_files: Iterable[Path | str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Any:
    """The checked ``Config`` of a run whose dataset's files are there; arguments as for `run`.

    Raises:
        InputError: if a setting or the dataset's files cannot be used.
    """
    model, dataset = names(model, dataset, config_files)
    config = build_config(model, dataset, config_files, settings or {})
    check_dataset_files(config)
    return config


def names(
    model: str | None, dataset: str | None, config_files: Iterable[Path | str]
) -> tuple[str, str]:
    """A run's model and dataset: as given, as in its config files, or the default ones.

    Raises:
        InputError: if there is no such model.
    """
    in_files: dict[str, Any] = {}
    for file in config_files:
        in_files.update(read_yaml(Path(file)))
    model = model or in_files.get("model", "LightGNN")
    _check_model(model)
    return model, dataset or in_files.get("dataset", "ml-100k")


def fingerprint_of(config: Any) -> dict[str, Any]:
    """Counts and hashes of a run's splits (`dataset_fingerprint`), without the run.

    Raises:
        InputError: as `load_data`.
    """
    return _load(config)[1]


@contextmanager
def _own_log() -> Iterator[None]:
    handlers = getLogger().handlers[:]
    try:
        yield
    finally:
        for handler in getLogger().handlers[:]:
            if handler not in handlers and isinstance(handler, FileHandler | StreamHandler):
                getLogger().removeHandler(handler)  # else a second run would log to this one's file
                handler.close()


def _run(
    config: Any, resume: Path | str | bool | None, result_file: Path | str | None, start: float
) -> dict[str, Any]:
    # Before the run: the checkout may be another one after it.
    began = environment(threads=torch.get_num_threads(), device=_device_name(config["device"]))
    _start_log(config)
    (train_data, valid_data, test_data), fingerprint = _load(config)
    with _installed(config):
        started = time.perf_counter()
        trainer = _trainer(config, train_data)
        built, progress = time.perf_counter() - started, None
        try:
            progress = _progress(config, trainer, train_data, valid_data, resume, built)
            valid = _fit(config, trainer, train_data, valid_data, progress, saved=True)
            trained = {"seconds": progress.seconds, "valid": valid, "curve": progress.curve}
            rows, ranked = _tested(config, trainer, train_data, test_data, trained)
        except KeyboardInterrupt as stop:
            kept = progress.folder if progress else None
            raise Interrupted(kept.path if kept else _run_dir(trainer)) from stop

    record = make_record(
        model=config["model"],
        dataset=config["dataset"],
        seed=config["seed"],
        settings=config.final_config_dict,
        fingerprint={**fingerprint, "card_sha256": card_hash(config)},
        masking=mask_in_force(config),
        valid_metric=config["valid_metric"].lower(),
        valid=rows[-1]["valid"],
        test=rows[-1]["test"],
        rows=rows,
        environment=began,
        resumed=bool(resume),
        seconds=time.monotonic() - start,
    )
    path = Path(result_file) if result_file is not None else _default_result_file(config, trainer)
    _write_users(users_file(path), config, ranked, train_data._dataset, test_data)
    write_json(path, record)  # the last, so that where it is, the run is whole
    progress.clear()
    logger = getLogger()
    logger.info(set_color("best valid ", "yellow") + f": {record['best_valid']}")
    logger.info(set_color("test result", "yellow") + f": {record['test']}")
    logger.info(set_color("record", "yellow") + f": {path}")
    return {**record, "result_file": str(path)}


# --- the parts of a run -----------------------------------------------------------------------


def _start_log(config: Any) -> None:
    keep_freed_memory()
    for folder in (config["checkpoint_dir"], Path("log", config["model"])):
        # RecBole looks first and makes it then, and one of two processes may fail.
        Path(folder).mkdir(parents=True, exist_ok=True)
    init_logger(config)
    getLogger().info(config)


def _load(config: Any) -> tuple[tuple[Any, Any, Any], dict[str, Any]]:
    """The loaders of the three splits, and their fingerprint."""
    init_seed(config["seed"], config["reproducibility"])
    loaders = load_data(config)
    return loaders, fingerprint(*loaders)


def _trainer(config: Any, train_data: Any) -> Any:
    """A trainer with a new model."""
    logger = getLogger()
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(config["model"])(config, train_data._dataset).to(config["device"])
    if config["accelerate"] and not accelerate_model(model):
        logger.info(f"accelerate has no effect on {config['model']}")
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    logger.info(model)
    if config["model"] not in our_models():
        # RecBole's is of the second alone: runs begun together would write one file.
        file = Path(trainer.saved_model_file)
        trainer.saved_model_file = str(file.with_stem(f"{file.stem}-{os.getpid()}"))
        rank_by_tables(trainer)
    return trainer


@contextmanager
def _installed(config: Any) -> Iterator[None]:
    """Say which package a model of RecBole's would need."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("recbole"):
            raise
        raise InputError(
            f"{config['model']} needs the package {error.name!r}, which is not installed"
        ) from error


def _progress(
    config: Any,
    trainer: Any,
    train_data: Any,
    valid_data: Any,
    resume: Path | str | bool | None,
    built: float,
) -> StockProgress:
    """What one of RecBole's models goes on from, and leaves; ours see to theirs."""
    path, folder, make = Path(resume) if resume and resume is not True else None, None, None
    if config["model"] in our_models():
        if resume:
            trainer.resume(path)
    else:
        data = fingerprints(train_data, valid_data)
        folder = RunFolder.reopen(config, data, path) if resume else None
        make = partial(RunFolder.create, Path(config["checkpoint_dir"]), config, data)
    return StockProgress(trainer, train_data, folder, config["model"], make=make, built=built)


def _fit(
    config: Any,
    trainer: Any,
    train_data: Any,
    valid_data: Any,
    progress: StockProgress,
    *,
    saved: bool,
) -> Any:
    """Train; returns the validation metrics of what validation chose."""
    options = {"saved": saved, "show_progress": config["show_progress"]}
    if isinstance(trainer, Trainer):  # RecBole's trees have no epochs to tell of
        options["callback_fn"] = progress.validated
    with stock_errors_explained(config):
        return trainer.fit(train_data, valid_data, **options)[1]


def _tested(
    config: Any, trainer: Any, train_data: Any, test_data: Any, trained: dict[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Ranked]]:
    """Test what validation chose.

    Returns:
        The record's rows, the final model's last, and by their keys what they are made of.
    """
    if config["model"] in our_models():
        return trainer.stage_rows(test_data), trainer.ranked
    name, options = config["model"], {"show_progress": config["show_progress"]}
    ranked = ranked_by(trainer, test_data, load_best_model=has_epochs(config), **options)
    row = {
        **{"key": name, "stage": name, "run": None, "model": name},
        **size_row(trainer.model, train_data._dataset.inter_num),
        **epochs_of(trainer),
        **trained,
        "test": ranked.metrics,
        "test_seconds": ranked.seconds,
    }
    return [row], {name: ranked}


def _write_users(
    file: Path, config: Any, ranked: dict[str, Ranked], dataset: Any, test_data: Any
) -> None:
    """Leave the users' metrics of all rows, or none of an earlier run."""
    metrics = {metric.lower() for metric in config["metrics"]}
    if not {"recall", "ndcg"} <= metrics or any(one.hits is None for one in ranked.values()):
        file.unlink(missing_ok=True)
        return
    users = test_data.uid_list.numpy()
    train = dataset.inter_feat[dataset.uid_field].numpy()
    write_users(
        file,
        dataset.field2id_token[dataset.uid_field][users],
        np.bincount(train, minlength=dataset.user_num)[users],
        {key: metrics_by_user(one, test_data, config["topk"]) for key, one in ranked.items()},
    )


# --- small checks and names -----------------------------------------------------------------


def _check_model(model: Any) -> None:
    names = model_names()
    if model in names:
        return
    try:
        get_model(str(model))  # RecBole's sequential and other models are not in the list
    except (ValueError, AttributeError, ImportError) as error:
        raise InputError(
            f"no model is named {model!r} here{did_you_mean(model, names)}; ours are "
            f"{', '.join(our_models())}, and RecBole's run too"
        ) from error


def _default_result_file(config: Any, trainer: Any) -> Path:
    if (run_dir := _run_dir(trainer)) is not None:
        return run_dir / "record.json"
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = f"{config['model']}-{config['dataset']}-{stamp}-{os.getpid()}.json"
    return Path(config["checkpoint_dir"]) / name


def _run_dir(trainer: Any) -> Path | None:
    try:
        return trainer.run_dir
    except (AttributeError, RuntimeError):  # RecBole's trainers have none, ours none before fit
        return None


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
