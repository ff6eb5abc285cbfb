"""RecBole 1.2.1 on current libraries: every fault that stops it, mended in place.

One function a fault. Each names the library, the place and the symptom, does nothing where the
fault is absent, and returns whether it acted. A method that is replaced stays reachable as
``__wrapped__``. `apply` runs them all; importing `recbole_lightgnn` arranges that this happens as
soon as RecBole is imported.
"""

import functools
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import during_import


@cache
def apply() -> dict[str, bool]:
    """Mend every fault, once; the name of each mend -> whether it acted."""
    return {mend.__name__: mend() for mend in MENDS}


def mend_ray_import() -> bool:
    """ray: ``recbole.quick_start`` imports ``ray.tune`` at its top, for hyper-tuning alone.

    RecBole asks for ray <= 2.6.3, which has no wheel for Python >= 3.12 and whose ``tune`` does not
    import where it installs (``pkg_resources`` is gone from setuptools, ``np.bool8`` from numpy):
    ``ModuleNotFoundError: No module named 'ray'``. A ray that imports is left alone; otherwise a
    module stands in for ``ray.tune`` that says what is missing when it is used.
    """
    try:
        import_module("ray.tune")
        return False
    except Exception:  # an old ray fails in many ways: ImportError, AttributeError, TypeError
        pass
    try:
        ray = import_module("ray")  # what works of it stays: it has hooks of its own at exit
    except Exception:
        ray = sys.modules["ray"] = ModuleType("ray", _NO_RAY)
    tune = sys.modules["ray.tune"] = ModuleType("ray.tune", _NO_RAY)
    vars(tune)["report"] = _report_without_ray
    vars(ray)["tune"] = tune
    return True


_NO_RAY = "Stands in for ray, which recbole.quick_start imports and only hyper-tuning uses."


def _report_without_ray(**metrics: float) -> None:
    raise ImportError(
        "hyper-tuning with ray needs a ray that imports here (tune.report was called, and this "
        "ray is a stand-in of recbole_lightgnn); recbole.trainer.HyperTuning tunes without ray"
    )


def mend_unknown_model_name() -> bool:
    """RecBole 1.2.1: ``get_model`` of a misspelt name ends in lightgbm.

    It looks through ``recbole.model.exlib_recommender`` last, which imports lightgbm and xgboost:
    ``ModuleNotFoundError: No module named 'lightgbm'`` where it means to say that there is no
    such model. (Modules that took ``get_model`` before this ran keep the old one.)
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
    import_module("recbole.utils").get_model = utils.get_model
    return True


def mend_config_numpy_names() -> bool:
    """numpy >= 2: ``Config.compatibility_settings`` reads ``np.float_``, which is gone.

    ``AttributeError: `np.float_` was removed in the NumPy 2.0 release`` at every ``Config()``; so
    are ``np.complex_`` and ``np.unicode_``. The names this method defines are defined by
    `mend_metric_numpy_names`, so it has nothing left to do.
    """
    import numpy as np

    if hasattr(np, "float_"):
        return False
    config = import_module("recbole.config.configurator").Config
    _replace(config, "compatibility_settings", lambda self: None)
    return True


def mend_metric_numpy_names() -> bool:
    """numpy >= 1.24: metrics, layers and ``Interaction`` use ``np.float``, ``np.bool`` and such.

    ``AttributeError: module 'numpy' has no attribute 'float'`` unless a ``Config`` was made
    before, whose constructor adds these names to numpy. Here they are added as RecBole would,
    those that numpy lacks.
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
    # vars, not hasattr: numpy 1.26 warns when it is asked for a name it once had.
    missing = {name: value for name, value in types.items() if name not in vars(np)}
    for name, value in missing.items():
        setattr(np, name, value)
    return bool(missing)


def mend_dok_update() -> bool:
    """SciPy >= 1.13: ``dok_matrix._update``, a private method, refuses or is gone.

    LightGCN, NGCF, NCL, GCMC, SpectralCF, KGIN and MCCLK fill their adjacency matrix with it:
    ``AttributeError: 'dok_matrix' object has no attribute '_update'``.
    """
    from scipy.sparse import dok_matrix

    try:
        dok_matrix((1, 1))._update({(0, 0): 1.0})
        return False
    except (AttributeError, NotImplementedError):
        # As before 1.13: taken as it is, unchecked. The checked public `update` is slower by far.
        dok_matrix._update = lambda self, data: self._dict.update(data)
        return True


def mend_checkpoint_loading() -> bool:
    """torch >= 2.6: ``torch.load`` reads weights only; RecBole's checkpoints hold its ``Config``.

    ``UnpicklingError: Weights only load failed`` after training, when the best checkpoint is
    loaded for the test, on resuming, and in ``load_data_and_model``. These three now read through
    `stock_checkpoint`, which says what is trusted and why; unpickling is not set free again.
    (Trainers that override the methods call these, or load nothing by torch.)
    """
    import torch

    if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
        return False
    from recbole_lightgnn.runs import recbole_loaders as stock_checkpoint

    trainer = import_module("recbole.trainer.trainer").Trainer
    _replace(trainer, "evaluate", stock_checkpoint.evaluate_with(trainer.evaluate))
    _replace(trainer, "resume_checkpoint", stock_checkpoint.resume_checkpoint)
    for module in ("recbole.quick_start.quick_start", "recbole.quick_start"):
        _replace(import_module(module), "load_data_and_model", stock_checkpoint.load_data_and_model)
    return True


def mend_missing_values() -> bool:
    """pandas >= 3: ``feat[field].fillna(..., inplace=True)`` fills a copy.

    In ``Dataset._fill_nan`` missing tokens and floats stay NaN without a word; in
    ``Dataset._load_feat`` a sequence left empty ends in ``AttributeError: 'float' object has no
    attribute 'split'``.
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
    _replace(module.Dataset, "_load_feat", _load_feat(module.Dataset._load_feat))
    # `_load_feat` is long and only what it reads needs filling: its pandas gets another read_csv.
    module.pd = ModuleType("pandas", "pandas whose read_csv fills empty sequences")
    module.pd.__dict__.update(vars(pd), read_csv=_read_csv)
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
            original(self)  # fills the sequences; its other fills find nothing left

    return fill_nan


def _load_feat(original: Callable[..., Any]) -> Callable[..., Any]:
    def load_feat(self: Any, filepath: str, source: Any) -> Any:
        with _fills_on_copies():
            return original(self, filepath, source)

    return load_feat


def _read_csv(*args: Any, **kwargs: Any) -> Any:
    import pandas as pd

    frame = pd.read_csv(*args, **kwargs)
    for column in frame.columns:  # "field:type", with type token_seq or float_seq
        if column.endswith("_seq"):
            frame[column] = frame[column].fillna("")
    return frame


@contextmanager
def _fills_on_copies() -> Iterator[None]:
    """Silences pandas' warning at the fills that the mend has done beforehand."""
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.ChainedAssignmentError)
        yield


def mend_sequence_lengths() -> bool:
    """pandas >= 3: ``feat[field].agg(len)`` is the length of the column, not of each row.

    ``ValueError: Length of values (1) does not match length of index`` in ``Dataset._remap`` when
    a column of sequences is loaded, ml-100k's item classes for one; normalizing and discretizing
    sequences do the same.
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


def mend_data_metrics() -> bool:
    """RecBole 1.2.1: ``Collector.get_data_struct`` takes all it holds for tensors.

    ``AttributeError: 'int' object has no attribute 'cpu'`` with ItemCoverage, AveragePopularity,
    GiniIndex and TailPercentage, which need counts of the data.
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
        held = self.data_struct._data_dict
        counts = {key: held.pop(key) for key in list(held) if not hasattr(held[key], "cpu")}
        struct = original(self)
        held.update(counts)
        struct._data_dict.update(counts)
        return struct

    _replace(collector.Collector, "get_data_struct", get_data_struct)
    return True


def mend_download() -> bool:
    """RecBole 1.2.1: one process waits at ``torch.distributed.barrier`` after a download.

    ``ValueError: Default process group has not been initialized`` hides what happened; where the
    download itself fails, as from RecBole's bucket at present, it is a bare ``HTTPError`` or
    ``URLError``. A process on its own has nobody to wait for, and a failure says where the
    dataset was looked for.
    """
    import torch

    dataset = import_module("recbole.data.dataset.dataset").Dataset
    original = dataset._download

    def download(self: Any) -> None:
        if torch.distributed.is_initialized():
            return original(self)
        barrier = torch.distributed.barrier
        torch.distributed.barrier = lambda: None
        try:
            return original(self)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"dataset {self.dataset_name} is not in {self.dataset_path} and cannot be "
                f"downloaded ({error}): put {self.dataset_name}.inter there, set data_path, or "
                "make it with `recbole-lightgnn import`"
            ) from error
        finally:
            torch.distributed.barrier = barrier

    _replace(dataset, "_download", download)
    return True


def _replace(owner: Any, name: str, new: Callable[..., Any]) -> None:
    """Put ``new`` in the place of ``owner.name``, which stays reachable as ``__wrapped__``."""
    setattr(owner, name, functools.wraps(getattr(owner, name))(new))


def mend_anomaly_detection() -> bool:
    """RecBole 1.2.1: importing its SINE turns autograd's anomaly detection on for the process.

    ``get_model`` of any sequential model imports it too. Whatever is trained afterwards is slow,
    and what has sparse products stops: ``NotImplementedError: Could not run 'aten::any.all_out'
    with arguments from the 'SparseCsrCPU' backend``. The detection stays here as it was.
    """
    module = "recbole.model.sequential_recommender.sine"
    if module in sys.modules:
        import torch

        torch.autograd.set_detect_anomaly(False)
    during_import(module, _anomaly_detection_as_it_is)
    return True


def _anomaly_detection_as_it_is() -> AbstractContextManager[Any]:
    import torch

    check_nan = torch.is_anomaly_check_nan_enabled()
    return torch.autograd.set_detect_anomaly(torch.is_anomaly_enabled(), check_nan)


def mend_dgcf_samples() -> bool:
    """RecBole 1.2.1: DGCF samples as many users as items, and maybe more than there are.

    ``ValueError: Sample larger than population or is negative`` in the first step where batches are
    so few that a share of the larger side is more than the smaller, which it now takes whole.
    """

    def sample(n_users: int, n_items: int, size: int) -> tuple[list[int], ...]:
        return tuple(random.sample(range(n), min(size, n)) for n in (n_users, n_items))

    _once_imported("dgcf", lambda dgcf: _replace(dgcf, "sample_cor_samples", sample))
    return True


def mend_ease_memory() -> bool:
    """numpy: EASE's ``np.linalg.inv`` takes float64 copies of a float32 matrix, 27 GB for Yelp.

    ``MemoryError``, or the process is killed. `models.ease.learn` comes to the same matrix, and
    the whole run needs 12 GB.
    """

    def learn(model: Any, config: Any, dataset: Any) -> None:
        import_module("recbole_lightgnn.integration.ease").learn(model, config, dataset)

    _once_imported("ease", lambda ease: _replace(ease.EASE, "__init__", learn))
    return True


def _once_imported(model: str, change: Callable[[ModuleType], None]) -> None:
    """Change the module of one of RecBole's models: now if it is there, else after its import."""
    module = f"recbole.model.general_recommender.{model}"

    @contextmanager
    def then_change() -> Iterator[None]:
        yield
        change(sys.modules[module])

    if module in sys.modules:
        change(sys.modules[module])
    during_import(module, then_change)


MENDS: tuple[Callable[[], bool], ...] = (
    mend_ray_import,
    mend_unknown_model_name,
    mend_config_numpy_names,
    mend_metric_numpy_names,
    mend_dok_update,
    mend_checkpoint_loading,
    mend_missing_values,
    mend_sequence_lengths,
    mend_data_metrics,
    mend_download,
    mend_anomaly_detection,
    mend_dgcf_samples,
    mend_ease_memory,
)
