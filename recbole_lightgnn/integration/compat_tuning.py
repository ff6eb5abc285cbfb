"""Patches for RecBole's own hyper-parameter search; see `recbole_lightgnn.integration.compat`."""

import functools
import sys
from importlib import import_module
from importlib.util import find_spec
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

from recbole_lightgnn.integration.compat_models import replace


def patch_ray_import() -> bool:
    """ray: ``recbole.quick_start`` imports ``ray.tune``, which only hyper-tuning needs.

    RecBole requires ray <= 2.6.3, which has no wheel for Python >= 3.12. On older Pythons, its
    ``ray.tune`` cannot be imported: setuptools has no ``pkg_resources`` any more, and numpy has no
    ``np.bool8``. Symptom: ``ModuleNotFoundError: No module named 'ray'``. If ``ray.tune`` cannot be
    imported, a stand-in module replaces it. The stand-in has a function ``report`` that does
    nothing. RecBole calls ``report`` in every search, even in those by
    ``recbole.trainer.HyperTuning``, which need no ray.
    """
    try:
        import_module("ray.tune")
        return False
    except Exception:  # an old ray fails in many ways: ImportError, AttributeError, TypeError
        pass
    try:
        ray = import_module("ray")  # keep what works of it: ray registers hooks at exit
    except Exception:
        ray = sys.modules["ray"] = ModuleType("ray", _NO_RAY)
    tune = sys.modules["ray.tune"] = ModuleType("ray.tune", _NO_RAY)
    vars(tune)["report"] = _report_without_ray
    vars(ray)["tune"] = tune
    return True


_NO_RAY = "Stand-in for ray, which recbole.quick_start imports and only hyper-tuning uses."


def _report_without_ray(**metrics: float) -> None:
    """Do nothing, in place of ``ray.tune.report``: without ray, nothing receives reports."""


def patch_exhaustive_search() -> bool:
    """hyperopt >= 0.2.6: ``exhaustive_search`` passes a ``RandomState``, not a ``Generator``.

    Symptom: ``AttributeError: 'RandomState' object has no attribute 'integers'`` in ``HyperTuning``
    with ``algo="exhaustive"``. With this patch, the function sees a copy of numpy in which
    ``RandomState`` makes a ``Generator``.
    """
    import numpy as np

    if find_spec("hyperopt") is None:
        return False
    module = import_module("recbole.trainer.hyper_tuning")
    original = module.exhaustive_search
    numpy = ModuleType("numpy")
    vars(numpy).update(vars(np), random=SimpleNamespace(RandomState=np.random.default_rng))
    patched = FunctionType(
        original.__code__, {**vars(module), "np": numpy}, argdefs=original.__defaults__
    )
    vars(module)["exhaustive_search"] = functools.wraps(original)(patched)
    return True


def patch_lists_of_search() -> bool:
    """RecBole 1.2.1: ``HyperTuning`` fails at a choice between lists, such as layer sizes.

    Symptoms: ``AttributeError: 'Apply' object has no attribute 'obj'`` with ``algo="exhaustive"``,
    because only options that are single values are found; and
    ``TypeError: can only concatenate list (not "tuple") to list`` in models such as NeuMF, because
    hyperopt turns lists into tuples.
    """
    module = import_module("recbole.trainer.hyper_tuning")
    original = module.HyperTuning.trial

    def parameters(space: Any) -> dict[str, range]:
        # The first argument of a choice has its name, the others are its options.
        arguments = [node.pos_args for node in module._recursiveFindNodes(space, "switch")]
        return {first.pos_args[0].obj: range(len(options)) for first, *options in arguments}

    def trial(self: Any, params: dict[str, Any]) -> Any:
        return original(self, _with_lists(params))

    replace(module, "_parameters", parameters)
    replace(module.HyperTuning, "trial", trial)
    return True


def _with_lists(value: Any) -> Any:
    """Copy nested settings, with a list in place of each tuple."""
    if isinstance(value, dict):
        return {key: _with_lists(part) for key, part in value.items()}
    return [_with_lists(part) for part in value] if isinstance(value, tuple) else value
