"""Patches that let RecBole run on current libraries, one function for each fault.

Each docstring names the library, the function at fault and the symptom. A patch returns whether it
replaced anything; where the fault is absent, it replaces nothing. The original of a replaced
method stays available as ``__wrapped__``. Once `recbole_lightgnn` is imported, `apply` runs as soon
as RecBole is imported.
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.integration import compat_models
from recbole_lightgnn.integration.compat_models import replace as _replace
from recbole_lightgnn.integration.compat_tuning import (
    patch_exhaustive_search,
    patch_lists_of_search,
    patch_ray_import,
)
from recbole_lightgnn.registry import during_import


@cache
def apply() -> dict[str, bool]:
    """Apply every patch, once per process; return, by name, whether a patch replaced anything."""
    return {patch.__name__: patch() for patch in PATCHES}


def patch_unknown_model_name() -> bool:
    """RecBole 1.2.1: ``get_model`` with a misspelt model name fails to import lightgbm.

    Symptom: ``ModuleNotFoundError: No module named 'lightgbm'`` instead of a message that the model
    does not exist. ``get_model`` searches ``recbole.model.exlib_recommender`` last, which imports
    lightgbm and xgboost. A module that imported ``get_model`` before this patch is not patched.
    """
    if find_spec("lightgbm") and find_spec("xgboost"):
        return False
    utils = import_module("recbole.utils.utils")
    original = utils.get_model

    def get_model(model_name: str) -> Any:
        try:
            return original(model_name)
        except ModuleNotFoundError as error:
            if error.name not in ("lightgbm", "xgboost") or model_name.lower() == error.name:
                raise
            raise ValueError(
                f"`model_name` [{model_name}] is not the name of an existing model."
            ) from None

    _replace(utils, "get_model", get_model)
    vars(import_module("recbole.utils"))["get_model"] = utils.get_model
    return True


def patch_config_numpy_names() -> bool:
    """numpy >= 2: ``Config.compatibility_settings`` uses the removed name ``np.float_``.

    Symptom: ``AttributeError: `np.float_` was removed in the NumPy 2.0 release`` at every
    ``Config()``. The method only adds old names to numpy. An empty method replaces it, because
    `patch_metric_numpy_names` adds these names as well.
    """
    import numpy as np

    if hasattr(np, "float_"):
        return False
    config = import_module("recbole.config.configurator").Config
    _replace(config, "compatibility_settings", lambda self: None)
    return True


def patch_metric_numpy_names() -> bool:
    """numpy >= 1.24: metrics, layers and ``Interaction`` use removed names like ``np.float``.

    Symptom: ``AttributeError: module 'numpy' has no attribute 'float'``, unless a ``Config`` was
    made before: the constructor of ``Config`` adds the removed names to numpy. This patch adds the
    names that numpy lacks.
    """
    import numpy as np

    types = {
        "bool": np.bool_,
        "int": np.int_,
        "float": np.float64,
        "complex": np.complex128,
        "object": np.object_,
        "str": np.str_,
        "long": np.int_,
        "unicode": np.str_,
    }
    # vars, not hasattr: numpy 1.26 warns at every access to a removed name.
    missing = {name: value for name, value in types.items() if name not in vars(np)}
    for name, value in missing.items():
        setattr(np, name, value)
    return bool(missing)


def patch_dok_update() -> bool:
    """SciPy >= 1.13: ``dok_matrix._update``, a private method, raises an error or is gone.

    Symptom: ``AttributeError: 'dok_matrix' object has no attribute '_update'`` in LightGCN, NGCF,
    NCL, GCMC, SpectralCF, KGIN and MCCLK, which fill an adjacency matrix by this method.
    """
    from scipy.sparse import dok_matrix

    try:
        dok_matrix((1, 1))._update({(0, 0): 1.0})
        return False
    except (AttributeError, NotImplementedError):
        # Unchecked, as before SciPy 1.13. The public `update` checks every entry and is far slower.
        dok_matrix._update = lambda self, data: self._dict.update(data)
        return True


def patch_checkpoint_loading() -> bool:
    """torch >= 2.6: ``torch.load`` refuses RecBole's checkpoints, which hold a ``Config``.

    Symptom: ``UnpicklingError: Weights only load failed`` when the best checkpoint is loaded for
    the test, on resuming, and in ``load_data_and_model``. The functions that load checkpoints now
    read through `runs.recbole_loaders`, which trusts a fixed list of classes; arbitrary unpickling
    stays off.
    """
    import torch

    if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
        return False
    from recbole_lightgnn.runs import recbole_loaders

    trainer = import_module("recbole.trainer.trainer").Trainer
    _replace(trainer, "evaluate", recbole_loaders.evaluate_with(trainer.evaluate))
    _replace(trainer, "resume_checkpoint", recbole_loaders.resume_checkpoint)
    for module in ("recbole.quick_start.quick_start", "recbole.quick_start"):
        _replace(import_module(module), "load_data_and_model", recbole_loaders.load_data_and_model)
    return True


def patch_missing_values() -> bool:
    """pandas >= 3: ``feat[field].fillna(..., inplace=True)`` fills a copy.

    Symptom: after ``Dataset._fill_nan``, missing tokens and floats are still NaN, and no error says
    so. ``Dataset._load_feat`` has the same fault; `integration.reading` replaces that method.
    """
    import numpy as np
    import pandas as pd

    frame = pd.DataFrame({"a": [np.nan]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame["a"].fillna(value=0, inplace=True)
    if not frame["a"].isna().any():
        return False

    module = import_module("recbole.data.dataset.dataset")
    _replace(module.Dataset, "_fill_nan", _fill_nan(module.Dataset._fill_nan))
    return True


def _fill_nan(original: Callable[..., Any]) -> Callable[..., Any]:
    def fill_nan(self: Any) -> None:
        from recbole.utils import FeatureType

        for feat in (getattr(self, name) for name in self.feat_name_list):
            for field in feat:
                if self.field2type[field] == FeatureType.TOKEN:
                    feat[field] = feat[field].fillna(0)
                elif self.field2type[field] == FeatureType.FLOAT:
                    feat[field] = feat[field].fillna(feat[field].mean())
        with _fills_on_copies():
            original(self)  # fills the sequences; the other columns are full

    return fill_nan


@contextmanager
def _fills_on_copies() -> Iterator[None]:
    """Silence pandas' warning that ``fillna`` has no effect: the patch has filled the column."""
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.ChainedAssignmentError)
        yield


def patch_sequence_lengths() -> bool:
    """pandas >= 3: ``feat[field].agg(len)`` returns the column's length, not the rows' lengths.

    Symptom: ``ValueError: Length of values (1) does not match length of index`` in
    ``Dataset._remap`` when a column of sequences is loaded, such as the item classes of ml-100k.
    Normalizing and discretizing sequences fail in the same way.
    """
    import pandas as pd

    if isinstance(pd.Series([[1], [1, 2]]).agg(len), pd.Series):
        return False
    dataset = import_module("recbole.data.dataset.dataset").Dataset
    original = dataset._data_processing

    def data_processing(self: Any) -> None:
        agg = pd.Series.agg

        def agg_by_row(series: Any, function: Any = None, *args: Any, **kwargs: Any) -> Any:
            if function is len:
                return series.map(len)
            return agg(series, function, *args, **kwargs)

        pd.Series.agg = agg_by_row
        try:
            original(self)
        finally:
            pd.Series.agg = agg

    _replace(dataset, "_data_processing", data_processing)
    return True


def patch_data_metrics() -> bool:
    """RecBole 1.2.1: ``Collector.get_data_struct`` treats counts of the data as tensors.

    Symptom: ``AttributeError: 'int' object has no attribute 'cpu'`` with the metrics ItemCoverage,
    AveragePopularity, GiniIndex and TailPercentage, which need these counts.
    """
    collector = import_module("recbole.evaluator.collector")
    probe = collector.Collector.__new__(collector.Collector)
    probe.data_struct = collector.DataStruct()
    probe.data_struct.set("data.num_items", 1)
    try:
        probe.get_data_struct()
        return False
    except AttributeError:
        original = collector.Collector.get_data_struct

    def get_data_struct(self: Any) -> Any:
        values = self.data_struct._data_dict
        counts = {key: values.pop(key) for key in list(values) if not hasattr(values[key], "cpu")}
        struct = original(self)
        values.update(counts)
        struct._data_dict.update(counts)
        return struct

    _replace(collector.Collector, "get_data_struct", get_data_struct)
    return True


def patch_download() -> bool:
    """RecBole 1.2.1: a single process waits at ``torch.distributed.barrier`` after a download.

    Symptom: ``ValueError: Default process group has not been initialized`` after a successful
    download. A failed download raises a bare ``HTTPError`` or ``URLError``. With this patch, a
    single process skips the barrier, and a failure raises an InputError that names the folder of
    the dataset and the remedies.
    """
    import torch

    dataset = import_module("recbole.data.dataset.dataset").Dataset
    original = dataset._download

    distributed: Any = torch.distributed

    def download(self: Any) -> Any:
        if distributed.is_initialized():
            return original(self)
        barrier = distributed.barrier
        distributed.barrier = lambda: None
        try:
            return original(self)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"dataset {self.dataset_name} is not in {self.dataset_path} and cannot be "
                f"downloaded ({error}): put {self.dataset_name}.inter there, set data_path, or "
                "make it with `recbole-lightgnn import`"
            ) from error
        finally:
            distributed.barrier = barrier

    _replace(dataset, "_download", download)
    return True


def patch_anomaly_detection() -> bool:
    """RecBole 1.2.1: importing the model SINE turns on autograd's anomaly detection.

    The detection stays on for the whole process. ``get_model`` imports SINE for any sequential
    model. Symptoms: training is slow, and models with sparse products stop with
    ``NotImplementedError: Could not run 'aten::any.all_out' with arguments from the
    'SparseCsrCPU' backend``. This patch restores the detection to its setting before the import.
    """
    module = "recbole.model.sequential_recommender.sine"
    if module in sys.modules:
        import torch

        torch.autograd.set_detect_anomaly(False)
    during_import(module, _keep_anomaly_detection)
    return True


def _keep_anomaly_detection() -> AbstractContextManager[Any]:
    """Context manager that restores autograd's anomaly detection to its setting at the start."""
    import torch

    check_nan = torch.is_anomaly_check_nan_enabled()
    return torch.autograd.set_detect_anomaly(torch.is_anomaly_enabled(), check_nan)


PATCHES: tuple[Callable[[], bool], ...] = (
    patch_ray_import,
    patch_exhaustive_search,
    patch_lists_of_search,
    patch_unknown_model_name,
    patch_config_numpy_names,
    patch_metric_numpy_names,
    patch_dok_update,
    patch_checkpoint_loading,
    patch_missing_values,
    patch_sequence_lengths,
    patch_data_metrics,
    patch_download,
    patch_anomaly_detection,
    *compat_models.PATCHES,
)
