"""Stock RecBole finds our models and trainers, whatever is imported first."""

import subprocess
import sys

import pytest
import recbole.trainer
from recbole.utils import ModelType, get_model, get_trainer

from recbole_lightgnn.models.student import LightGNN
from recbole_lightgnn.models.teacher import LightGNNTeacher
from recbole_lightgnn.registry import model_names, our_models, resolve
from recbole_lightgnn.trainer.staged import StagedTrainer


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_get_model_gives_our_classes_and_no_copies_of_them():
    assert get_model("LightGNN") is LightGNN
    assert get_model("LightGNN") is LightGNN  # from sys.modules the second time
    assert get_model("LightGNNTeacher") is LightGNNTeacher
    from recbole.model.general_recommender import lightgnn

    assert lightgnn is sys.modules["recbole_lightgnn.models.student"]
    assert lightgnn.__spec__.name == "recbole_lightgnn.models.student"


@pytest.mark.parametrize("name", our_models())
def test_every_name_resolves(name):
    assert resolve(our_models()[name]).__name__ == name
    assert get_trainer(ModelType.GENERAL, name) is StagedTrainer


def test_recboles_own_models_and_trainers_are_found_as_before():
    assert get_model("BPR").__module__ == "recbole.model.general_recommender.bpr"
    assert get_trainer(ModelType.GENERAL, "BPR") is recbole.trainer.Trainer
    assert get_trainer(ModelType.GENERAL, "NCL") is recbole.trainer.NCLTrainer
    assert get_trainer(ModelType.GENERAL, "LightGNN") is StagedTrainer
    with pytest.raises(AttributeError, match="NoSuchTrainer"):
        recbole.trainer.NoSuchTrainer  # noqa: B018
    with pytest.raises(ValueError, match="not the name of an existing model"):
        get_model("NoSuchModel")


def test_model_names_are_those_that_get_model_takes():
    names = model_names()
    assert {"LightGNNTeacher", "LightGNNIntermediate", "LightGNN", "SimGCL"} <= set(names)
    assert {"BPR", "NeuMF", "LightGCN", "NGCF", "DGCF", "SGL", "NCL", "EASE"} <= set(names)
    assert [name for name in names if get_model(name).__name__ != name] == []


def test_importing_the_package_loads_the_standard_library_alone():
    heavy = "{'torch', 'numpy', 'scipy', 'pandas', 'recbole', 'yaml'}"
    code = f"import sys, recbole_lightgnn; print(sorted({heavy} & set(sys.modules)))"
    assert python(code) == "[]"


def test_the_package_does_without_recbole():
    hide = "import sys; sys.path = [p for p in sys.path if 'site-packages' not in p]; "
    ours = f"sys.path.insert(0, {str(resolve.__globals__['__file__'])!r}.rsplit('/', 2)[0]); "
    code = hide + ours + "from recbole_lightgnn.registry import model_names; print(model_names())"
    assert python(code) == str(list(our_models()))


MODULES = (
    "config.recbole_config integration.compat quick_start runs.recbole_loaders models.student "
)
MODULES += "trainer.staged runs.record"


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES.split())
def test_any_module_can_be_imported_first(module):
    code = f"""import recbole_lightgnn.{module}, recbole.quick_start
from recbole.config import Config
from recbole.utils import get_trainer
print(hasattr(Config, "stage"), get_trainer(None, "LightGNN").__name__)"""
    assert python(code) == "True StagedTrainer"


@pytest.mark.slow
def test_recbole_may_come_first():
    code = """import recbole, recbole_lightgnn
from recbole.quick_start import run_recbole
from recbole.utils import get_model
print(get_model("LightGNN").__module__)"""
    assert python(code) == "recbole_lightgnn.models.student"
