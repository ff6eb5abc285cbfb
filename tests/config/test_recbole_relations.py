"""Settings of RecBole's models that must fit each other: refused before the data is read."""

import pytest
from helpers.advice import followed, remedies

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.config.files import recbole_yaml
from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.config.recbole_relations import check_relations
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import STUDENT

HEADS = ["BERT4Rec", "FDSA", "FEARec", "GCSAN", "LightSANs", "S3Rec", "SASRec", "SASRecF"]
NOT_DIVISORS = [
    *((model, {"n_heads": 3}, "n_heads", "hidden_size, 64, got 3", 1) for model in HEADS),
    ("CORE", {"n_heads": 3}, "n_heads", "embedding_size, 64, got 3", 1),
    ("SASRec", {"hidden_size": 50, "n_heads": 4}, "n_heads", "hidden_size, 50, got 4", 2),
    ("SASRecCPR", {"hidden_size": 63}, "n_heads", "hidden_size, 63, got 2", 1),
    ("AutoInt", {"num_heads": 6}, "num_heads", "attention_size, 16, got 6", 2),
    ("FiGNN", {"num_heads": 5}, "num_heads", "attention_size, 16, got 5", 1),
    ("DGCF", {"n_factors": 3}, "n_factors", "embedding_size, 64, got 3", 1),
    ("DGCF", {"n_factors": 6, "embedding_size": 63}, "n_factors", "embedding_size, 63, got 6", 3),
]


@pytest.mark.parametrize(("model", "settings", "key", "said", "divisor"), NOT_DIVISORS)
def test_a_number_of_parts_that_does_not_divide_the_whole(model, settings, key, said, divisor):
    with pytest.raises(InputError) as error:
        check_relations(settings, model)
    assert str(error.value) == f"{key} of {model} must divide {said}: write --{key}={divisor}"
    (remedy,) = remedies(str(error.value))
    check_relations(followed(settings, remedy), model)


MAXIMUM = "MAX_ITEM_LIST_LENGTH"
TOO_LARGE = [
    ("DiffRec", {"sampling_steps": 6}, "sampling_steps", "steps, 5, got 6", 5),
    ("DiffRec", {"sampling_steps": 9, "steps": 2}, "sampling_steps", "steps, 2, got 9", 2),
    ("LDiffRec", {"sampling_steps": 6}, "sampling_steps", "steps, 5, got 6", 5),
    ("SHAN", {"short_item_length": 60}, "short_item_length", f"{MAXIMUM}, 50, got 60", 50),
    ("HRM", {"high_order": 51}, "high_order", f"{MAXIMUM}, 50, got 51", 50),
    ("FOSSIL", {"order_len": 5, MAXIMUM: 4}, "order_len", f"{MAXIMUM}, 4, got 5", 4),
]


@pytest.mark.parametrize(("model", "settings", "key", "said", "most"), TOO_LARGE)
def test_a_setting_above_the_one_that_bounds_it(model, settings, key, said, most):
    with pytest.raises(InputError) as error:
        check_relations(settings, model)
    assert str(error.value) == f"{key} of {model} must be at most {said}: write --{key}={most}"
    (remedy,) = remedies(str(error.value))
    check_relations(followed(settings, remedy), model)


NOTHING_LEFT = [
    ("NeuMF", {"mlp_hidden_size": []}, "mlp_hidden_size of NeuMF must have at least one number"),
    ("NeuMF", {"mf_train": False, "mlp_train": False}, "mf_train and mlp_train of NeuMF must not"),
    ("BERT4Rec", {"mask_ratio": 0.01}, f"at least one of {MAXIMUM} items, 50, got 0.01"),
    ("BERT4Rec", {"mask_ratio": 0.3, MAXIMUM: 3}, f"at least one of {MAXIMUM} items, 3, got 0.3"),
    ("BERT4Rec", {MAXIMUM: 1}, f"at least one of {MAXIMUM} items, 1, got 0.2"),
]


@pytest.mark.parametrize(("model", "settings", "said"), NOTHING_LEFT)
def test_settings_that_leave_nothing_to_learn(model, settings, said):
    with pytest.raises(InputError) as error:
        check_relations(settings, model)
    assert said in str(error.value)
    (remedy,) = remedies(str(error.value))
    check_relations(followed(settings, remedy), model)


LAYERS = {"cnn_kernels": [4, 4], "cnn_strides": [4, 4]}
LISTS = [
    (
        "ConvNCF",
        LAYERS | {"cnn_channels": [2, 4]},
        "cnn_channels of ConvNCF must begin with 1, the",
    ),
    ("ConvNCF", {key: [] for key in LAYERS} | {"cnn_channels": []}, "must begin with 1, the chann"),
    ("ConvNCF", {"cnn_kernels": [4, 4]}, "after the first, 4, got [4, 4] and [4, 4, 2, 2]: make"),
    (
        "ConvNCF",
        {"cnn_strides": [4]},
        "after the first, 4, got [4, 4, 2, 2] and [4]: make them equ",
    ),
    ("DMF", {"user_hidden_size_list": [64, 32]}, "must be equal, got [64, 32] and [64, 64]: write"),
    ("DMF", {"item_hidden_size_list": []}, "must be equal, got [64, 64] and []: write"),
    (
        "GRU4RecCPR",
        {"n_facet_all": 4},
        "n_facet_all of GRU4RecCPR must be 5, the sum of n_facet, n",
    ),
    ("SASRecCPR", {"reranker_CAN_NUM": "50,20"}, "n_facet_all of SASRecCPR must be 6, the sum of"),
    ("SASRecCPR", {"n_facet_emb": 1}, "n_facet_emb of SASRecCPR must be 0 or 2, got 1: write"),
    ("GRU4RecCPR", {"reranker_CAN_NUM": "many"}, "must be numbers of items, such as 500,100,20, g"),
    ("GRU4RecCPR", {"reranker_CAN_NUM": [50, 20]}, "must be numbers of items, such as 500,100,20,"),
    ("GRU4RecCPR", {"reranker_CAN_NUM": "50;20"}, "must be numbers of items, such as 500,100,20"),
]


@pytest.mark.parametrize(("model", "settings", "said"), LISTS)
def test_lists_and_sums_that_do_not_fit(model, settings, said):
    with pytest.raises(InputError) as error:
        check_relations(settings, model)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    for remedy in remedies(str(error.value)):
        check_relations(followed(settings, remedy), model)


@pytest.mark.parametrize("model", [*HEADS, "DGCF", "DiffRec", "SHAN", "ConvNCF", "DMF", "LightGCN"])
def test_recboles_own_values_fit(model):
    check_relations({}, model)
    check_relations(recbole_yaml(f"model/{model}"), model)


def test_values_that_fit_are_accepted():
    check_relations({"hidden_size": 48, "n_heads": 3}, "SASRec")
    check_relations({"steps": 9, "sampling_steps": 9}, "DiffRec")
    check_relations({"cnn_channels": [1, 8], "cnn_kernels": [8], "cnn_strides": [8]}, "ConvNCF")
    check_relations({"n_facet_all": 6, "reranker_CAN_NUM": "50,20"}, "SASRecCPR")
    check_relations({"n_heads": 3}, "LightGCN")  # not a setting of LightGCN's


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--model=SASRec", "--n_heads=3"], "n_heads of SASRec must divide hidden_size, 64, got 3"),
        (
            ["--model=DGCF", "--n_factors=3"],
            "n_factors of DGCF must divide embedding_size, 64, got",
        ),
        (
            ["--model=DiffRec", "--sampling_steps=9"],
            "sampling_steps of DiffRec must be at most ste",
        ),
        (
            ["--model=ConvNCF", "--cnn_kernels=[4]"],
            "cnn_kernels and cnn_strides of ConvNCF must ha",
        ),
    ],
)
def test_a_run_refuses_them_before_it_reads_data(flags, line, capsys):
    assert main(["run", "--dataset=nowhere", *flags]) == 2
    (*_, last) = capsys.readouterr().err.splitlines()
    assert last.startswith(f"error: {line}")


def test_a_stage_refuses_them_too():
    settings = {"teacher": "DGCF", "teacher_settings.n_factors": 5}
    with pytest.raises(InputError, match=r"write --teacher_settings\.n_factors=1$"):
        build_config(STUDENT, "toy", (), settings)
