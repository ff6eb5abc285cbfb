"""Every patch of `integration.compat`: without it the fault appears, with it the fault is gone.

If a library is too old to have the fault (`make test-oldest`), the patch must report that it did
nothing, and RecBole's own code must still be in place.
"""

import collections
import importlib.util
import random
import subprocess
import sys
import tracemalloc
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import recbole
import scipy
import scipy.sparse as sp
import torch
from helpers.planted import write_planted
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.dataset import Dataset
from recbole.evaluator import metrics_dict
from recbole.evaluator.collector import Collector, DataStruct
from recbole.model.general_recommender import EASE
from recbole.quick_start import objective_function, run_recbole
from recbole.trainer import Trainer
from recbole.utils import get_model
from scipy.sparse import dok_matrix

from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.integration import compat

pytestmark = pytest.mark.filterwarnings("ignore")

ACTED = compat.apply()


def original(function):
    """RecBole's own function, before the patch."""
    return function.__wrapped__


def version(library) -> tuple[int, int]:
    major, minor = library.__version__.split(".")[:2]
    return int(major), int(minor)


def python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def config_of(settings, model="BPR", **more):
    return Config(model=model, dataset="small", config_dict={**settings, **more})


# --- all of them --------------------------------------------------------------------------------


def test_apply_runs_once():
    methods = [Trainer.evaluate, Dataset._download, Collector.get_data_struct]
    assert compat.apply() is ACTED
    assert list(ACTED) == [patch.__name__ for patch in compat.PATCHES]
    assert [Trainer.evaluate, Dataset._download, Collector.get_data_struct] == methods


def test_exactly_the_needed_patches_acted():
    new_numpy, new_pandas = version(np) >= (2, 0), version(pd) >= (3, 0)
    new_scipy = version(scipy) >= (1, 13)
    assert ACTED["patch_config_numpy_names"] == new_numpy
    assert ACTED["patch_missing_values"] == new_pandas
    assert ACTED["patch_sequence_lengths"] == new_pandas
    assert ACTED["patch_dok_update"] == new_scipy
    assert ACTED["patch_metric_numpy_names"]
    assert ACTED["patch_checkpoint_loading"]
    assert ACTED["patch_data_metrics"] == (recbole.__version__ == "1.2.1")
    assert ACTED["patch_ngcf_dropout"] == (recbole.__version__ == "1.2.0")
    assert ACTED["patch_exhaustive_search"] == (importlib.util.find_spec("hyperopt") is not None)
    assert ACTED["patch_download"]


# --- ray ----------------------------------------------------------------------------------------

WITHOUT = """
from recbole_lightgnn.integration import compat
compat.PATCHES = tuple(patch for patch in compat.PATCHES if patch.__name__ != {name!r})
"""
NO_RAY = "import sys; sys.modules['ray'] = None\n"  # as if it were not installed


@pytest.mark.slow
def test_quick_start_does_not_import_without_the_stand_in_for_ray():
    import_it = "import recbole.quick_start"
    fault = python(NO_RAY + WITHOUT.format(name="patch_ray_import") + import_it)
    assert "import of ray halted" in fault.stderr
    assert fault.returncode == 1
    patched = python(NO_RAY + "import recbole_lightgnn\n" + import_it)
    assert (patched.returncode, patched.stderr) == (0, "")


def fake_ray(folder, text):
    (folder / "ray").mkdir()
    (folder / "ray" / "__init__.py").write_text("", encoding="utf-8")
    (folder / "ray" / "tune.py").write_text(text, encoding="utf-8")


@pytest.fixture
def _no_ray_yet(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("_no_ray_yet")
def test_a_ray_that_works_is_used(tmp_path):
    fake_ray(tmp_path, "report = 'the real one'")
    assert not compat.patch_ray_import()
    from ray import tune

    assert tune.report == "the real one"


@pytest.mark.usefixtures("_no_ray_yet")
def test_a_ray_that_breaks_on_import_is_replaced(tmp_path):
    fake_ray(tmp_path, "import numpy; numpy.bool8_is_gone")  # ray 2.6.3 under numpy 2
    assert compat.patch_ray_import()
    from ray import tune

    assert tune.report(recall=0.1) is None
    assert not hasattr(tune, "run")


def test_recboles_objective_function_works_without_ray(settings):
    """`recbole.trainer.HyperTuning` calls it for each trial."""
    given = {"model": "Pop", "dataset": "small", **settings}
    result = objective_function(given, saved=False)
    assert result["best_valid_score"] == result["best_valid_result"]["ndcg@5"]


# --- names of models ----------------------------------------------------------------------------


def test_a_misspelt_model_is_not_a_missing_lightgbm():
    with pytest.raises(ValueError, match=r"\[LightGCNN\] is not the name of an existing model"):
        get_model("LightGCNN")
    if ACTED["patch_unknown_model_name"]:
        with pytest.raises(ModuleNotFoundError, match=r"lightgbm|xgboost"):
            original(get_model)("LightGCNN")


SEQUENTIAL = """
import torch
{setting}
from recbole.utils import get_model
get_model("SASRec")
print(torch.is_anomaly_enabled())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preamble", "setting", "expected"),
    [
        ("import recbole_lightgnn", "", "False"),
        ("import recbole_lightgnn", "torch.autograd.set_detect_anomaly(True)", "True"),
        (WITHOUT.format(name="patch_anomaly_detection"), "", "True"),
    ],
)
def test_a_sequential_model_leaves_anomaly_detection_alone(preamble, setting, expected):
    code = preamble + "\n" + SEQUENTIAL.format(setting=setting)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == expected


# --- NGCF and DGCF ------------------------------------------------------------------------------


def test_ngcf_drops_messages_in_training_only(settings):
    config = config_of(settings, model="NGCF", message_dropout=0.5)
    dataset = load_data(config)[0].dataset
    model = get_model("NGCF")(config, dataset).eval()
    with torch.no_grad():
        assert torch.equal(model.forward()[0], model.forward()[0])
        model.train()
        assert not torch.equal(model.forward()[0], model.forward()[0])
        if ACTED["patch_ngcf_dropout"]:
            model.eval()
            assert not torch.equal(*(original(type(model).forward)(model)[0] for _ in range(2)))


def test_dgcf_samples_no_more_than_there_are():
    module = importlib.import_module("recbole.model.general_recommender.dgcf")
    with pytest.raises(ValueError, match="Sample larger than population"):
        original(module.sample_cor_samples)(9, 3, 9)
    users, items = module.sample_cor_samples(9, 3, 5)
    assert len(set(users)) == 5
    assert sorted(items) == [0, 1, 2]
    random.seed(3)
    patched = module.sample_cor_samples(9, 8, 5)
    random.seed(3)
    assert tuple(original(module.sample_cor_samples)(9, 8, 5)) == patched


# --- numpy --------------------------------------------------------------------------------------


def test_config_reads_no_name_that_numpy_2_lacks(settings):
    assert config_of(settings)["epochs"] == 2
    method = Config.compatibility_settings
    if ACTED["patch_config_numpy_names"]:
        with pytest.raises(AttributeError, match=r"np.float_"):
            original(method)(None)
    else:
        assert not hasattr(method, "__wrapped__")


NAMES = {"float": np.float64, "int": np.int_, "bool": np.bool_, "str": np.str_}


def test_metrics_work_before_any_config_was_made(monkeypatch):
    ndcg = metrics_dict["ndcg"].__new__(metrics_dict["ndcg"])
    hits, n_relevant = np.array([[True, False, True]]), np.array([2])
    monkeypatch.delattr(np, "float")
    with pytest.raises(AttributeError, match="float"):
        ndcg.metric_info(hits, n_relevant)
    assert compat.patch_metric_numpy_names()
    assert not compat.patch_metric_numpy_names()  # nothing is missing now
    ideal = 1 + 1 / np.log2(3)
    expected = [[1.0, 1 / ideal, (1 + 1 / 2) / ideal]]
    np.testing.assert_allclose(ndcg.metric_info(hits, n_relevant), expected, rtol=1e-12)
    for name, meant in NAMES.items():
        assert getattr(np, name) is meant


# --- SciPy --------------------------------------------------------------------------------------

ENTRIES = {(0, 1): 1.0, (2, 0): 3.0}


def test_dok_matrix_takes_a_dictionary(monkeypatch):
    matrix = dok_matrix((3, 2), dtype=np.float32)
    matrix._update(ENTRIES)
    np.testing.assert_array_equal(matrix.toarray(), [[0, 1], [0, 0], [3, 0]])
    np.testing.assert_array_equal((matrix > 0).sum(axis=1), [[1], [0], [1]])  # as LightGCN does
    if ACTED["patch_dok_update"]:
        monkeypatch.delattr(dok_matrix, "_update")
        with pytest.raises((AttributeError, NotImplementedError)):
            dok_matrix((3, 2))._update(ENTRIES)
        assert compat.patch_dok_update()
    assert not compat.patch_dok_update()


def test_lightgcn_normalizes_its_graph(settings):
    config = config_of(settings, "LightGCN")
    train = data_preparation(config, create_dataset(config))[0]
    matrix = get_model("LightGCN")(config, train.dataset).norm_adj_matrix.to_dense()
    users = torch.bincount(train.dataset.inter_feat["user_id"], minlength=31)
    items = torch.bincount(train.dataset.inter_feat["item_id"], minlength=21)
    degree = torch.cat([users, items])
    edge = (matrix > 0).float()
    assert torch.equal(edge.sum(dim=1).long(), degree)
    expected = edge / (degree[:, None] * degree[None]).clamp_min(1).sqrt()
    torch.testing.assert_close(matrix, expected, rtol=1e-5, atol=1e-7)


# --- pandas -------------------------------------------------------------------------------------


@pytest.fixture
def features(settings):
    columns = {"inter": ["user_id", "item_id"], "item": ["item_id", "price", "kind", "tags"]}
    return config_of(settings, load_col=columns)


def test_missing_values_are_filled(features):
    dataset = Dataset(features)
    items, number_of = dataset.item_feat, dataset.field2token_id["item_id"]

    def value(item, field):
        return items[field][number_of[item]]

    assert value("i4", "price") == 4
    mean = (sum(range(19)) - 3) / 18
    assert value("i3", "price") == items["price"][0] == pytest.approx(mean)
    assert (value("i0", "kind"), value("i4", "kind"), items["kind"][0]) == (1, 0, 0)
    assert value("i0", "tags").tolist() == [1, 2]
    assert (value("i5", "tags").tolist(), items["tags"][0].tolist()) == ([], [])


def test_without_the_patch_they_stay_missing(features, monkeypatch):
    module = sys.modules["recbole.data.dataset.dataset"]
    if not ACTED["patch_missing_values"]:
        assert module.pd is pd
        assert not hasattr(Dataset._fill_nan, "__wrapped__")
        return
    with monkeypatch.context() as context:
        context.setattr(Dataset, "_fill_nan", original(Dataset._fill_nan))
        prices = Dataset(features).item_feat["price"]
        assert prices[prices.isna()].index.tolist() == [
            0,
            Dataset(features).token2id("item_id", "i3"),
        ]
    monkeypatch.setattr(Dataset, "_load_feat", original(Dataset._load_feat))
    with pytest.raises(AttributeError, match="'float' object has no attribute 'split'"):
        Dataset(features)


def test_columns_of_sequences_are_taken_row_by_row(features, monkeypatch):
    agg = pd.Series.agg
    lengths = [len(tags) for tags in Dataset(features).item_feat["tags"]]
    assert sorted(lengths) == [0, 0] + [2] * 18
    assert pd.Series.agg is agg
    if ACTED["patch_sequence_lengths"]:
        monkeypatch.setattr(Dataset, "_data_processing", original(Dataset._data_processing))
        with pytest.raises(ValueError, match="does not match length of index"):
            Dataset(features)


# --- RecBole's own ------------------------------------------------------------------------------


def test_metrics_of_the_data_get_their_counts():
    collector = Collector.__new__(Collector)
    collector.data_struct = DataStruct()
    counts = collections.Counter({1: 5})
    collector.data_struct.set("data.num_items", 4)
    collector.data_struct.set("data.count_items", counts)
    collector.data_struct.update_tensor("rec.items", torch.tensor([[1, 2], [1, 3]]))
    if ACTED["patch_data_metrics"]:
        with pytest.raises(AttributeError, match="'int' object has no attribute 'cpu'"):
            original(Collector.get_data_struct)(collector)
    for _ in range(2):  # counts stay for every evaluation, lists for one
        struct = collector.get_data_struct()
        assert struct.get("data.num_items") == 4
        assert struct.get("data.count_items") == counts
        assert struct.get("rec.items").tolist() == [[1, 2], [1, 3]]
        assert "rec.items" not in collector.data_struct
        collector.data_struct.update_tensor("rec.items", torch.tensor([[1, 2], [1, 3]]))


def test_item_coverage_and_other_data_metrics_are_computed(settings):
    metrics = ["ItemCoverage", "AveragePopularity", "GiniIndex", "TailPercentage"]
    metrics += ["ShannonEntropy", "GAUC", "MRR", "MAP", "NDCG"]
    settings |= {"metrics": metrics, "topk": [20], "valid_metric": "NDCG@20"}
    result = run_recbole(model="Pop", dataset="small", config_dict=settings)["test_result"]
    assert result["itemcoverage@20"] == 1  # each list holds 20 of the 20 items


def test_a_failed_download_names_the_folder_of_the_dataset(settings, monkeypatch):
    module = sys.modules["recbole.data.dataset.dataset"]

    def refused(url):
        raise URLError("refused")

    # Replace the network access only: no test may depend on a server.
    monkeypatch.setattr(module, "decide_download", refused)
    config = Config(model="BPR", dataset="ml-1m", config_dict=settings)
    with pytest.raises(InputError, match=r"dataset ml-1m is not in .*ml-1m and cannot be downl"):
        Dataset(config)
    with pytest.raises(InputError, match="cannot be downloaded"):
        Dataset(Config(model="BPR", dataset="nowhere", config_dict=settings))


def test_a_single_process_does_not_wait_after_a_download(settings, monkeypatch, tmp_path):
    module = sys.modules["recbole.data.dataset.dataset"]
    source = tmp_path / "dataset" / "small" / "small.inter"
    monkeypatch.setattr(module, "decide_download", lambda url: True)
    monkeypatch.setattr(module, "download_url", lambda url, folder: f"{folder}/ml-1m.zip")
    monkeypatch.setattr(module, "rename_atomic_files", lambda *names: None)

    def extract(path, folder):
        open(path, "wb").close()
        (tmp_path / "dataset" / "ml-1m" / "ml-1m.inter").write_bytes(source.read_bytes())

    monkeypatch.setattr(module, "extract_zip", extract)
    barrier = torch.distributed.barrier
    assert len(Dataset(Config(model="BPR", dataset="ml-1m", config_dict=settings))) == 240
    assert torch.distributed.barrier is barrier
    monkeypatch.setattr(Dataset, "_download", original(Dataset._download))
    (tmp_path / "dataset" / "ml-1m" / "ml-1m.inter").unlink()
    (tmp_path / "dataset" / "ml-1m").rmdir()
    with pytest.raises(ValueError, match="process group has not been initialized"):
        Dataset(Config(model="BPR", dataset="ml-1m", config_dict=settings))


def test_ease_has_the_same_matrix_as_recboles_own():
    config = build_config("EASE", "ml-100k", (), {})
    dataset = load_data(config)[0].dataset
    ours, theirs = EASE.__new__(EASE), EASE.__new__(EASE)
    EASE.__init__(ours, config, dataset)
    original(EASE.__init__)(theirs, config, dataset)
    assert vars(ours).keys() == vars(theirs).keys()
    assert type(ours.item_similarity) is type(theirs.item_similarity)
    assert ours.item_similarity.dtype == theirs.item_similarity.dtype
    matrices = np.asarray(ours.item_similarity), np.asarray(theirs.item_similarity)
    np.testing.assert_allclose(*matrices, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("density", [0.001, 0.1])  # 0.1: few products of items are 0
def test_ease_needs_the_memory_of_a_matrix_and_a_half(density):
    n = 1200
    draws = sp.random(n // 4, n, density, format="csr", dtype=np.float32, random_state=0)
    draws.data[:] = 1
    model, config = EASE.__new__(EASE), build_config("EASE", "ml-100k", (), {})
    dataset = load_data(config)[0].dataset
    dataset.inter_matrix = lambda form: draws
    tracemalloc.start()
    EASE.__init__(model, config, dataset)
    assert 1.4 < tracemalloc.get_traced_memory()[1] / (8 * n * n) < 1.75
    tracemalloc.stop()
    gram = (draws.T @ draws).toarray().astype(np.float64) + config["reg_weight"] * np.eye(n)
    inverse = np.linalg.inv(gram)
    expected = -inverse / inverse.diagonal() * (1 - np.eye(n))
    np.testing.assert_allclose(np.asarray(model.item_similarity), expected, rtol=1e-4, atol=1e-7)


def test_ease_of_many_items_needs_the_memory_of_one_float32_matrix(monkeypatch):
    monkeypatch.setattr("recbole_lightgnn.integration.ease.LARGE", 100)
    monkeypatch.setattr("recbole_lightgnn.nn.gram.WHOLE", 100)
    monkeypatch.setattr("recbole_lightgnn.nn.gram.SMALL", 100)
    n = 2000
    draws = sp.random(n // 4, n, 0.01, format="csr", dtype=np.float32, random_state=0)
    model, config = EASE.__new__(EASE), build_config("EASE", "ml-100k", (), {})
    dataset = load_data(config)[0].dataset
    dataset.inter_matrix = lambda form: draws
    tracemalloc.start()
    EASE.__init__(model, config, dataset)
    assert tracemalloc.get_traced_memory()[1] / (4 * n * n) < 1.35
    tracemalloc.stop()
    gram = (draws.T @ draws).toarray().astype(np.float64) + config["reg_weight"] * np.eye(n)
    inverse = np.linalg.inv(gram)
    expected = -inverse / inverse.diagonal() * (1 - np.eye(n))
    np.testing.assert_allclose(np.asarray(model.item_similarity), expected, rtol=1e-3, atol=1e-6)


def test_ease_reads_its_matrix_from_our_and_from_recboles_checkpoint(tmp_path):
    write_planted(tmp_path)
    config = build_config("EASE", "planted", (), {"data_path": str(tmp_path)})
    dataset = load_data(config)[0].dataset
    model, again, stock = (EASE(config, dataset) for _ in range(3))
    saved = model.other_parameter()
    assert saved["item_similarity"].data_ptr() == model.item_similarity.ctypes.data  # no copy
    torch.save(saved, tmp_path / "ease.pth")
    again.item_similarity = stock.item_similarity = None
    again.load_other_parameter(torch.load(tmp_path / "ease.pth", weights_only=False))
    stock.load_other_parameter({**saved, "item_similarity": model.item_similarity})
    for loaded in (again, stock):
        assert isinstance(loaded.item_similarity, np.matrix)
        assert np.array_equal(loaded.item_similarity, model.item_similarity)


def test_ease_without_an_inverse_is_refused(tmp_path):
    write_planted(tmp_path)
    settings = {"data_path": str(tmp_path), "reg_weight": 0.0}
    config = build_config("EASE", "planted", (), settings)  # the padding item's row is empty
    with pytest.raises(InputError, match=r"no inverse with reg_weight=0.0: give a larger one"):
        EASE(config, load_data(config)[0].dataset)
