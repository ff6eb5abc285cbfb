"""Train, test and record any model by `run`; train and validate it without a test by `choose`."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from logging import FileHandler, StreamHandler, getLogger
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.utils import get_model, init_logger, init_seed, set_color

from recbole_lightgnn.config.compatibility import short_list_warning
from recbole_lightgnn.config.files import read_yaml
from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.config.recbole_faults import explained, given_to
from recbole_lightgnn.config.unheeded import unheeded_warning
from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.data.loaders import card_hash, check_dataset_files, fingerprint, load_data
from recbole_lightgnn.data.refit import check_refit, refit_loaders
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.integration.eval_mask import mask_in_force
from recbole_lightgnn.registry import model_names, our_models
from recbole_lightgnn.runs.record import environment, make_record
from recbole_lightgnn.runs.user_metrics import users_file, write_users
from recbole_lightgnn.trainer.adapters import adapter_of
from recbole_lightgnn.trainer.evaluation import Ranked, metrics_by_user
from recbole_lightgnn.trainer.recbole_errors import explain_missing_package
from recbole_lightgnn.trainer.recbole_needs import check_needs, exlib_missing
from recbole_lightgnn.utils.allocator import keep_freed_memory
from recbole_lightgnn.utils.files import check_writable, write_json
from recbole_lightgnn.utils.text import did_you_mean


class Interrupted(KeyboardInterrupt):
    """Exception for a run that the user interrupted, for example with Ctrl-C.

    Attributes:
        run_dir: the folder to resume the run from, or ``None`` if the run cannot be resumed.
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
    """Train a model, choose the best epoch by validation, test that epoch, and write the record.

    With the setting ``refit``, the model is then trained again on train and validation
    interactions, for the chosen number of epochs and without validation. This second model is
    tested.

    A file beside the record gets the recall and NDCG of every test user, if ``metrics`` has both
    and all items are ranked (`recbole_lightgnn.runs.user_metrics`).

    Args:
        model: name of the model; by default the model in the config files, else ``LightGNN``.
        dataset: name of the dataset; by default the dataset in the config files, else ``ml-100k``.
        config_files: yaml files of settings; a later file takes precedence over an earlier file.
        settings: settings by name, with precedence over the files. A name with a dot sets a setting
            of an earlier stage, such as the teacher's training: ``{"teacher_settings.epochs": 3}``.
        resume: folder of an interrupted run to resume, or True for the latest interrupted run.
            Possible for our models, and for RecBole's models in `trainer.recbole_resume.RESUMABLE`.
        result_file: path of the record; by default in the run folder (our models) or in
            ``checkpoint_dir`` (RecBole's models).

    Returns:
        The record of the run (`make_record`), plus ``result_file``, the path of the record.

    Raises:
        InputError: if a setting, the dataset or the run to resume cannot be used.
        Interrupted: if the user interrupted the run.
    """
    start = time.monotonic()
    config = configure(model, dataset, config_files=config_files, settings=settings)
    if result_file is not None:
        check_writable("result_file", Path(result_file))
    adapter = adapter_of(config["model"])
    if resume:
        adapter.check_resumable(config)
    # Taken before the run, because the checkout may change during the run.
    began = environment(threads=torch.get_num_threads(), device=_device_name(config["device"]))
    with _run_log(config):
        (train_data, valid_data, test_data), hashes = _load(config)
        with _explained(config):
            training = adapter(config, train_data)
            try:
                training.fit(valid_data, saved=True, resume=_resumed(resume))
                tested = training
                if config["refit"]:
                    loaders = refit_loaders(config, (train_data, valid_data, test_data))
                    train_data, _, test_data = loaders
                    tested = training.refit(train_data, valid_data)
                rows, ranked = tested.test(test_data)
            except KeyboardInterrupt as stop:
                raise Interrupted(training.run_dir) from stop
        record = make_record(
            model=config["model"],
            dataset=config["dataset"],
            seed=config["seed"],
            settings=config.final_config_dict,
            fingerprint={**hashes, "card_sha256": card_hash(config)},
            masking=mask_in_force(config),
            valid_metric=config["valid_metric"].lower(),
            valid=rows[-1]["valid"],
            test=rows[-1]["test"],
            rows=rows,
            environment=began,
            resumed=bool(resume),
            seconds=time.monotonic() - start,
        )
        path = Path(result_file) if result_file is not None else tested.record_file()
        _write_users(users_file(path), config, ranked, train_data._dataset, test_data)
        write_json(path, record)  # the last file: if it exists, the run is complete
        training.clear()
        tested.clear()
        _log_result(record, path)
    return {**record, "result_file": str(path)}


def choose(
    model: str | None = None,
    dataset: str | None = None,
    *,
    config_files: Iterable[Path | str] = (),
    settings: Mapping[str, Any] | None = None,
    after_validation: Callable[[int, float], None] | None = None,
) -> dict[str, Any]:
    """Train a model and choose the best epoch by validation, as `run` does, without a test.

    No ranking uses test interactions, and no record or checkpoint is left.

    Args:
        model, dataset, config_files, settings: as for `run`.
        after_validation: function called after each validation of every stage, with the epoch (from
            1) and the score. If it raises an exception, the training ends. It is never called for
            RecBole's models without epochs.

    Returns:
        A dict with ``score``, the value of ``valid_metric`` on validation; ``valid``, all
        validation metrics; and ``dataset_fingerprint``, counts and hashes of the splits.

    Raises:
        InputError: as for `run`, or if the score is not a finite number.
    """
    config = configure(model, dataset, config_files=config_files, settings=settings)
    with _run_log(config):
        (train_data, valid_data, _), hashes = _load(config)
        with _explained(config):
            training = adapter_of(config["model"])(config, train_data)
            valid = training.fit(valid_data, saved=False, after_validation=after_validation)
    metric = config["valid_metric"].lower()
    score = float(valid[metric])
    if not math.isfinite(score):
        raise InputError(f"the validation score, {metric}, is not a number: {score}")
    return {
        "score": score,
        "valid": {name: float(value) for name, value in valid.items()},
        "dataset_fingerprint": hashes,
    }


def configure(
    model: str | None = None,
    dataset: str | None = None,
    *,
    config_files: Iterable[Path | str] = (),
    settings: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Build a run's settings from the arguments of `run`; check them and the dataset's files.

    Raises:
        InputError: if a setting or the dataset's files cannot be used.
    """
    model, dataset = names(model, dataset, config_files)
    config: RunConfig = build_config(model, dataset, config_files, settings or {})
    check_dataset_files(config)
    check_needs(config)
    check_refit(config)
    return config


def names(
    model: str | None, dataset: str | None, config_files: Iterable[Path | str]
) -> tuple[str, str]:
    """Return the names of a run's model and dataset: as given, else from files, else the defaults.

    Raises:
        InputError: if there is no model of this name.
    """
    in_files: dict[str, Any] = {}
    for file in config_files:
        in_files.update(read_yaml(Path(file)))
    model = model or in_files.get("model", "LightGNN")
    _check_model(model)
    return model, dataset or in_files.get("dataset", "ml-100k")


def fingerprint_of(config: RunConfig) -> dict[str, Any]:
    """Load a run's data, and return counts and hashes of the splits (`dataset_fingerprint`).

    Raises:
        InputError: if the data cannot be loaded (`load_data`).
    """
    return _load(config)[1]


@contextmanager
def _run_log(config: RunConfig) -> Iterator[None]:
    """Context manager that logs a run to a file, as RecBole does, until the run ends."""
    handlers = getLogger().handlers[:]
    try:
        _start_log(config)
        yield
    finally:
        for handler in getLogger().handlers[:]:
            if handler not in handlers and isinstance(handler, FileHandler | StreamHandler):
                getLogger().removeHandler(handler)  # a second run would log to this run's file
                handler.close()


def _start_log(config: RunConfig) -> None:
    keep_freed_memory()
    for folder in (config["checkpoint_dir"], Path("log", config["model"])):
        # RecBole creates a missing folder without exist_ok, so one of two processes may fail.
        Path(folder).mkdir(parents=True, exist_ok=True)
    init_logger(config)
    getLogger().info(config)
    for warning in (short_list_warning(config.final_config_dict), unheeded_warning(config)):
        if warning:
            getLogger().warning(warning)


@contextmanager
def _explained(config: RunConfig) -> Iterator[None]:
    """Context manager that turns errors of RecBole's code into InputErrors."""
    what = f"{config['model']} stopped in RecBole"
    with explained(what, given_to(config)), explain_missing_package(config):
        yield


def _load(config: RunConfig) -> tuple[tuple[Any, Any, Any], dict[str, Any]]:
    """Load the train, validation and test loaders; return the loaders and the fingerprint."""
    init_seed(config["seed"], config["reproducibility"])
    loaders = load_data(config)
    return loaders, fingerprint(*loaders)


def _resumed(resume: Path | str | bool | None) -> Path | bool:
    return Path(resume) if resume and not isinstance(resume, bool) else bool(resume)


def _write_users(
    file: Path, config: RunConfig, ranked: Mapping[str, Ranked], dataset: Any, test_data: Any
) -> None:
    """Write each user's test metrics, or remove an earlier file if these metrics are unknown.

    Args:
        file: path of the file to write.
        config: settings of the run.
        ranked: test ranking of each tested model; keys are the ``key`` of the models' rows.
        dataset: RecBole's training dataset.
        test_data: RecBole's test loader.
    """
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


def _log_result(record: Mapping[str, Any], path: Path) -> None:
    logger = getLogger()
    logger.info(set_color("best valid ", "yellow") + f": {record['best_valid']}")
    logger.info(set_color("test result", "yellow") + f": {record['test']}")
    logger.info(set_color("record", "yellow") + f": {path}")


def _check_model(model: Any) -> None:
    """Raise InputError if neither this package nor RecBole has a model of this name."""
    known = model_names()
    if model in known:
        return
    if missing := exlib_missing(model):
        raise InputError(
            f"{model} needs {' and '.join(missing)}, not installed here: run `pip install "
            f"{' '.join(missing)}`"
        )
    try:
        get_model(str(model))  # `model_names` lists no sequential and other models of RecBole's
    except (ValueError, AttributeError, ImportError) as error:
        raise InputError(
            f"no model is named {model!r} here{did_you_mean(model, known)}; ours are "
            f"{', '.join(our_models())}, and RecBole's run too"
        ) from error


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
