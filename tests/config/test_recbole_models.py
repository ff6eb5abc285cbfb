"""Own settings of RecBole's models: what RecBole trains with is accepted, the rest is refused."""

import re
from pathlib import Path

import pytest
import recbole

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.config import recbole_models
from recbole_lightgnn.config.files import recbole_yaml
from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.config.recbole_models import check_own, own_setting
from recbole_lightgnn.config.schema import check_value
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import STUDENT

FILES = sorted((Path(recbole.__file__).parent / "properties" / "model").glob("*.yaml"))
MODELS = [file.stem for file in FILES]


@pytest.mark.parametrize("model", MODELS)
def test_every_default_of_recboles_is_accepted(model):
    defaults = recbole_yaml(f"model/{model}")
    check_own(defaults, model)
    for key, default in defaults.items():
        setting = own_setting(model, key)
        if setting is None or setting.type == "bool" or default in ("", "None"):
            continue
        for value in default if isinstance(default, list) else [default]:
            check_value(setting, value)


@pytest.mark.parametrize(
    ("model", "settings"),
    [  # values that RecBole's own pages search, and the ends of ranges that train
        ("AFM", {"dropout_prob": [0.0, 0.5], "reg_weight": [0, 10]}),
        ("ADMMSLIM", {"lambda1": [0.1, 10], "alpha": [0, 1], "positive_only": [True, False, 1, 0]}),
        ("AsymKNN", {"k": [1, 2000], "beta": [0, 1], "q": [1, 6]}),
        ("CDAE", {"loss_type": ["BCE", "MSE"], "reg_weight_1": [0.0, 0.01]}),
        ("CFKG", {"loss_function": ["inner_product", "transe"], "margin": [0.5, 2.0]}),
        ("DGCF", {"n_factors": [2, 8], "cor_weight": [0, 0.02], "n_layers": [0, 1]}),
        ("DiffRec", {"steps": [2, 100], "noise_scale": [0, 1e-5], "w_min": [0.1], "w_max": [1.0]}),
        ("DSSM", {"mlp_hidden_size": [[64, 64, 64], [512, 512]]}),
        ("ENMF", {"dropout_prob": [0, 0.9], "negative_weight": [0.001, 1]}),
        ("GCMC", {"accum": ["stack", "sum"], "num_basis_functions": [1, 5]}),
        ("GRU4Rec", {"num_layers": [1, 3], "dropout_prob": [0.0, 0.5]}),
        ("HRM", {"pooling_type_layer_1": ["max", "average"], "high_order": [1, 5]}),
        ("ItemKNN", {"k": [1, 1000], "shrink": [0.0, 1], "knn_method": ["item", "user"]}),
        ("KD_DAGFM", {"alpha": [0, 1], "beta": [0.1], "type": ["inner", "outer"]}),
        ("KGCN", {"aggregator": ["sum", "neighbor", "concat"], "n_iter": [0, 2]}),
        ("KGIN", {"ind": ["mi", "distance", "cosine"], "context_hops": [1, 3]}),
        ("LightGCN", {"n_layers": [0, 4], "reg_weight": [0, 1e-2]}),
        ("LINE", {"order": [1, 2], "second_order_loss_weight": [0.3, 1]}),
        ("MacridVAE", {"kfac": [3, 20], "nogb": [False, True], "std": [0.01, 0.5]}),
        ("MCCLK", {"loss_type": ["BPR", "bce"], "node_dropout_rate": [0.1, 0.5]}),
        ("MultiVAE", {"anneal_cap": [0, 1], "total_anneal_steps": [0, 200000]}),
        ("NARM", {"dropout_probs": [[0.25, 0.5], [0, 0]], "n_layers": [1, 2]}),
        ("NeuMF", {"mf_pretrain_path": [None, "x.pth"], "mlp_hidden_size": [[64, 32, 16], [8]]}),
        ("RecVAE", {"mixture_weights": [[0.15, 0.75, 0.1]], "gamma": [0.0035, 0.01]}),
        ("SASRec", {"n_layers": [1, 4], "hidden_act": ["gelu", "swish"], "attn_dropout_prob": [0]}),
        ("SASRecCPR", {"use_proj_bias": [0, 1, True], "weight_mode": ["", "dynamic"]}),
        ("SGL", {"type": ["ED", "ND", "RW"], "drop_ratio": [0, 0.5], "ssl_tau": [0.05, 1]}),
        ("SimpleX", {"margin": [-1, 0, 0.9], "gamma": [0, 1], "negative_weight": [1, 150.5]}),
        ("SLIMElastic", {"alpha": [0, 1.0], "l1_ratio": [0.1, 1]}),
        ("GRU4RecCPR", {"reranker_CAN_NUM": [100, "500,100,20"], "n_facet_window": [-2, 0]}),
    ],
)
def test_values_that_recbole_trains_with_are_accepted(model, settings):
    for key, values in settings.items():
        assert key in recbole_yaml(f"model/{model}")
        for value in values:
            check_own({key: value}, model)


REFUSED = [
    ("LightGCN", "n_layers", -1, "n_layers must be an integer >= 0, got -1"),
    ("LightGCN", "n_layers", "two", "n_layers must be an integer >= 0, got 'two'"),
    ("LightGCN", "reg_weight", -1e-5, "reg_weight must be a number >= 0, got -1e-05"),
    ("ItemKNN", "k", -1, "k must be an integer >= 1, got -1"),
    ("ItemKNN", "k", 0.5, "k must be an integer >= 1, got 0.5"),
    (
        "ItemKNN",
        "knn_method",
        "users",
        "knn_method must be one of item, user, got 'users' (did you",
    ),
    ("SGL", "type", "XX", "type must be one of ED, ND, RW, got 'XX'"),
    ("SGL", "ssl_tau", 0, "ssl_tau must be a number > 0, got 0"),
    ("SGL", "drop_ratio", 1, "drop_ratio must be a number x with 0 <= x < 1, got 1"),
    ("SASRec", "n_layers", 0, "n_layers must be an integer >= 1, got 0"),
    (
        "SASRec",
        "hidden_act",
        "gelo",
        "hidden_act must be one of gelu, relu, swish, tanh, sigmoid, g",
    ),
    (
        "SASRec",
        "hidden_dropout_prob",
        -0.1,
        "hidden_dropout_prob must be a number x with 0 <= x < 1",
    ),
    ("NeuMF", "mlp_hidden_size", 3, "mlp_hidden_size must be a list, as [128, 64], got 3"),
    ("NeuMF", "mlp_hidden_size", [64, 0], "mlp_hidden_size must be an integer >= 1, got 0"),
    ("NeuMF", "mf_train", "no", "mf_train must be True or False, got 'no'"),
    ("NeuMF", "mf_train", 2, "mf_train must be True or False, got 2"),
    ("NeuMF", "dropout_prob", True, "dropout_prob must be a number, as 0.1, got True"),
    ("FISM", "reg_weights", 3, "reg_weights must be a list, as [0.01, 0.01], got 3"),
    ("FISM", "reg_weights", [0.1], "reg_weights must be a list of 2, as [0.01, 0.01], got [0.1]"),
    ("FISM", "reg_weights", [0.1, -1], "reg_weights must be a number >= 0, got -1"),
    ("SLIMElastic", "alpha", -1, "alpha must be a number >= 0, got -1"),
    ("RecVAE", "hidden_dimension", 0.5, "hidden_dimension must be an integer >= 1, got 0.5"),
    ("DMF", "inter_matrix_type", "x", "inter_matrix_type must be one of 01, rating, got 'x'"),
    ("EASE", "reg_weight", "big", "reg_weight must be a number >= 0, got 'big'"),
    ("CORE", "loss_type", "BPR", "loss_type must be one of CE, got 'BPR'"),
    ("LINE", "order", 3, "order must be an integer x with 1 <= x <= 2, got 3"),
    ("DCNV2", "structure", "stack", "must be one of stacked, parallel, got 'stack' (did you mean"),
    ("KGAT", "aggregator_type", "sage", "must be one of gcn, graphsage, bi, got 'sage'"),
    ("MCCLK", "loss_type", "hinge", "loss_type must be one of bpr, bce, got 'hinge'"),
    (
        "FDSA",
        "selected_features",
        "class",
        "selected_features must be a list, as ['class'], got 'c",
    ),
    ("MultiVAE", "anneal_cap", None, "anneal_cap must be a number >= 0, got None"),
]


@pytest.mark.parametrize(("model", "key", "value", "message"), REFUSED)
def test_a_value_out_of_type_range_or_choices_is_refused(model, key, value, message):
    with pytest.raises(InputError) as error:
        check_own({key: value}, model)
    assert message in str(error.value)
    with pytest.raises(InputError, match=rf"^teacher_settings\.{key}"):
        check_own({key: value}, model, "teacher_settings.")


@pytest.mark.parametrize(
    "flags",
    [
        ["--model=LightGCN", "--n_layers=-1"],
        ["--model=ItemKNN", "--k=-1"],
        ["--model=SGL", "--type=XX"],
        ["--model=SLIMElastic", "--alpha=-1"],
        ["--model=FISM", "--split_to=-3", "--reg_weights=3"],
        ["--model=LightGNN", "--teacher=LightGCN", "--teacher_settings.n_layers=-1"],
    ],
)
def test_a_run_refuses_it_before_it_reads_data(flags, capsys):
    assert main(["run", "--dataset=nowhere", *flags]) == 2
    (*_, line) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {flags[-1][2:].partition('=')[0]} must be ")


def test_stages_of_recboles_models_are_checked():
    with pytest.raises(InputError, match=r"^teacher_settings\.type must be one of ED, ND, RW, got"):
        build_config(STUDENT, "toy", (), {"teacher": "SGL", "teacher_settings": {"type": "XX"}})


@pytest.mark.skipif(recbole.__version__ == "1.2.0", reason="has fewer settings")
def test_every_name_in_the_tables_is_a_setting_of_recboles():
    keys = {key for model in MODELS for key in recbole_yaml(f"model/{model}")}
    keys |= {f"{model}.{key}" for model in MODELS for key in recbole_yaml(f"model/{model}")}
    named = {*recbole_models._RANGES, *recbole_models._CHOICES, *recbole_models._SWITCHES}
    assert named | recbole_models._OF_FIXED_LENGTH | recbole_models._UNCHECKED <= keys


@pytest.mark.parametrize("model", MODELS)
def test_choices_are_texts_that_recboles_code_has(model):
    package = Path(recbole.__file__).parent / "model"
    code = "\n".join(file.read_text(encoding="utf-8") for file in package.rglob("*.py"))
    texts = {text.lower() for text in re.findall(r"[\"'](\w[\w-]*)[\"']", code)}
    texts |= {name.lower() for name in re.findall(r"^class (\w+)", code, re.MULTILINE)}
    for key in recbole_yaml(f"model/{model}"):
        setting = own_setting(model, key)
        known = texts | {"average", "mean"} if key.startswith("pooling_type") else texts
        assert set(map(str.lower, setting.choices if setting else ())) <= known
