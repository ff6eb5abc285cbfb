"""Baselines against plain implementations of their papers, and tests that every one passes."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.planted import WIDTH, columns, quick_settings, write_planted
from recbole.data.interaction import Interaction
from recbole.quick_start import load_data_and_model, run_recbole
from recbole.utils import get_model, get_trainer
from torch.testing import assert_close

from recbole_lightgnn.baselines.softmax import SoftmaxLightGCN
from recbole_lightgnn.cli.main import main
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.pruned import PrunedRecommender
from recbole_lightgnn.models.scoring_tables import final_tables
from recbole_lightgnn.models.solved import SolvedRecommender
from recbole_lightgnn.models.taught import TaughtRecommender
from recbole_lightgnn.nn.propagation import noisy_layers
from recbole_lightgnn.quick_start import run
from recbole_lightgnn.registry import STAGES, our_models, resolve

BASELINES = [
    name
    for name, path in our_models().items()
    if name not in STAGES and not issubclass(resolve(path), SolvedRecommender | PrunedRecommender)
]
EVERY = pytest.mark.parametrize("name", BASELINES)
# Models with a teacher have a row and settings of it, and cannot be one: test_taught.py.
UNTAUGHT = pytest.mark.parametrize(
    "name",
    [name for name in BASELINES if not issubclass(resolve(our_models()[name]), TaughtRecommender)],
)


@pytest.fixture
def build(build):
    """The same fixture, with a teacher as narrow as the model where the two are compared."""

    def make(name="LightGNN", **settings):
        teacher = {"teacher_settings": {"embedding_size": WIDTH}} if name == "SimRec" else {}
        return build(name, **teacher, **settings)

    return make


def adjacency(model):
    """Return the adjacency matrix, users above items, padding nodes included."""
    pattern, n_users = model.observed.interactions.pattern, model.n_users
    matrix = torch.zeros(n_users + model.n_items, n_users + model.n_items)
    matrix[pattern.row, n_users + pattern.col] = 1
    return matrix + matrix.T


def normalized(matrix):
    degree = matrix.sum(dim=1)
    scale = torch.where(degree > 0, degree.rsqrt(), 0.0)
    return scale[:, None] * matrix * scale


def plain_bpr(user, item, batch):
    """Compute BPR one interaction at a time."""
    losses = [
        -torch.log(torch.sigmoid(user[u] @ item[i] - user[u] @ item[j]))
        for u, i, j in zip(*(index.tolist() for index in batch), strict=True)
    ]
    return torch.stack(losses).mean()


def plain_nce(view, other, nodes, tau):
    """Compute InfoNCE over the distinct nodes of a batch."""
    losses = []
    for node in sorted(set(nodes.tolist())):
        cosines = [F.cosine_similarity(view[node], other[n], dim=0) for n in set(nodes.tolist())]
        own = F.cosine_similarity(view[node], other[node], dim=0)
        losses.append(torch.stack(cosines).div(tau).logsumexp(0) - own / tau)
    return torch.stack(losses).mean()


def half_squares(tables, batch):
    (user, item), (users, items, negatives) = tables, batch
    squares = user[users].square().sum() + item[items].square().sum()
    return (squares + item[negatives].square().sum()) / (2 * len(users))


def assert_same(model, twin, seed=None):
    """Assert that loss terms and gradients equal those of a plain implementation."""
    batch = {key: model.batch[key][:24] for key in model.batch.columns}
    if seed is not None:
        torch.manual_seed(seed)
    terms = model.loss_terms(Interaction(batch))
    sum(terms.values()).backward()
    ours = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    if seed is not None:
        torch.manual_seed(seed)
    expected = twin(model, columns(model))
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-5), name
    sum(expected.values()).backward()
    for name, parameter in model.named_parameters():
        assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-6)
        assert ours[name].abs().max() > 1e-4, f"nothing is learnt of {name}"


# --- SimGCL and XSimGCL ----------------------------------------------------------------------

CONTRAST = {"n_layers": 3, "contrast_weight": 0.7, "contrast_temperature": 0.3}
CONTRAST |= {"noise": 0.25, "reg_weight": 0.05}


def noisy(model):
    """Return all noisy layers, with gradients through each."""
    tables = model.user_embedding, model.item_embedding
    return noisy_layers(model.observed, *tables, n_layers=3, noise=0.25)


def mean_of(layers):
    return [sum(sides) / len(layers) for sides in zip(*layers, strict=True)]


def terms_of(model, batch, final, one, other):
    user, item, _ = batch
    contrast = plain_nce(one[0], other[0], user, 0.3) + plain_nce(one[1], other[1], item, 0.3)
    return {
        "interaction": plain_bpr(*final, batch),
        "contrast": 0.7 * contrast,
        "decay": 0.05 * half_squares((model.user_embedding, model.item_embedding), batch),
    }


def plain_simgcl(model, batch):
    """Compute SimGCL's terms with three propagations, and gradients through each."""
    layer = torch.cat([model.user_embedding, model.item_embedding])
    matrix, layers = normalized(adjacency(model)), []
    for _ in range(3):
        layer = matrix @ layer
        layers.append(layer)
    final = (sum(layers) / 3).split([model.n_users, model.n_items])
    return terms_of(model, batch, final, mean_of(noisy(model)), mean_of(noisy(model)))


def test_simgcl_contrasts_two_noisy_views(build):
    model = build("SimGCL", **CONTRAST)
    assert_same(model, plain_simgcl, seed=3)
    assert_close(model.encode(), model.encode())
    views = model.views()[1:]
    assert not torch.allclose(views[0][0], views[1][0], atol=1e-3), "each has noise of its own"


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_xsimgcl_contrasts_a_layer_with_the_mean_in_one_propagation(build, layer):
    def plain(model, batch):
        layers = noisy(model)
        final = mean_of(layers)
        return terms_of(model, batch, final, final, layers[layer - 1])

    assert_same(build("XSimGCL", **CONTRAST, contrast_layer=layer), plain, seed=4)


@pytest.mark.parametrize("name", ["SimGCL", "XSimGCL"])
def test_the_ranking_has_no_noise(build, name):
    model = build(name, **CONTRAST).eval()
    matrix = normalized(adjacency(model))
    both = torch.cat([model.user_embedding, model.item_embedding])
    expected = sum(torch.linalg.matrix_power(matrix, k) @ both for k in (1, 2, 3)) / 3
    assert_close(torch.cat(model.final_embeddings()), expected, rtol=1e-4, atol=1e-6)


# --- LR-GCCF ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_lrgccf_puts_layers_with_self_loops_side_by_side(build, n_layers):
    def plain(model, batch):
        matrix = normalized(adjacency(model) + torch.eye(model.n_users + model.n_items))
        layers = [torch.cat([model.user_embedding, model.item_embedding])]
        for _ in range(n_layers):
            layers.append(matrix @ layers[-1])
        final = torch.cat(layers, dim=1).split([model.n_users, model.n_items])
        return {
            "interaction": plain_bpr(*final, batch),
            "decay": 0.02 * half_squares(final, batch),
        }

    assert_same(build("LRGCCF", n_layers=n_layers, reg_weight=0.02), plain)


# --- BiasMF ----------------------------------------------------------------------------------


def test_biasmf_adds_the_items_bias(build):
    model = build("BiasMF", reg_weight=0.3)
    with torch.no_grad():
        model.item_bias.copy_(torch.linspace(-1, 1, model.n_items)[:, None])

    def plain(model, batch):
        user, item, negative = batch
        difference = (model.user_embedding[user] * model.item_embedding[item]).sum(-1)
        difference = difference - (model.user_embedding[user] * model.item_embedding[negative]).sum(
            -1
        )
        bias = model.item_bias[:, 0]
        squares = sum(part.square().sum() for part in (bias[item], bias[negative]))
        half = half_squares((model.user_embedding, model.item_embedding), batch)
        return {
            "interaction": F.softplus(bias[negative] - bias[item] - difference).mean(),
            "decay": 0.3 * (half + squares / (2 * len(user))),
        }

    assert_same(model, plain)
    user, item = model.eval().final_embeddings()
    expected = model.user_embedding[7] @ model.item_embedding[9] + model.item_bias[9, 0]
    assert (user[7] @ item[9]).item() == pytest.approx(expected.item(), rel=1e-5)


# --- DirectAU --------------------------------------------------------------------------------


@pytest.mark.parametrize("n_layers", [0, 2])
def test_directau_aligns_and_spreads(build, n_layers):
    def plain(model, batch):
        both = torch.cat([model.user_embedding, model.item_embedding])
        matrix = normalized(adjacency(model))
        layers = [torch.linalg.matrix_power(matrix, k) @ both for k in range(n_layers + 1)]
        user, item = (sum(layers) / len(layers)).split([model.n_users, model.n_items])
        x, y = F.normalize(user[batch[0]], dim=-1), F.normalize(item[batch[1]], dim=-1)
        spread = [torch.pdist(side).pow(2).mul(-2).exp().mean().log() for side in (x, y)]
        return {
            "alignment": (x - y).norm(dim=1).pow(2).mean(),
            "uniformity": 1.5 * (spread[0] + spread[1]) / 2,
        }

    assert_same(build("DirectAU", n_layers=n_layers, uniformity_weight=1.5), plain)


def test_the_last_row_of_an_epoch_may_be_alone(build):
    model = build("DirectAU")
    row = {key: model.batch[key][:1] for key in model.batch.columns}
    terms = model.loss_terms(Interaction(row))
    user, item, _ = columns(model, 1)
    cosine = F.cosine_similarity(model.user_embedding[user], model.item_embedding[item])
    assert terms["alignment"].item() == pytest.approx(2 - 2 * cosine.item(), rel=1e-5)
    assert terms["uniformity"].item() == 0


# --- AutoRec ---------------------------------------------------------------------------------


def test_autorec_rebuilds_whole_rows(build):
    model = build("AutoRec", reg_weight=0.4)
    with torch.no_grad():
        model.hidden_bias.copy_(torch.linspace(-1, 1, 4))
        model.output_bias.copy_(torch.linspace(0, 0.5, model.n_items)[:, None])
    rows = adjacency(model)[: model.n_users, model.n_users :]

    def plain(model, batch):
        users = sorted(set(batch[0].tolist()))
        errors = []
        for user in users:
            hidden = torch.sigmoid(model.encoder.T @ rows[user] + model.hidden_bias)
            output = model.decoder @ hidden + model.output_bias[:, 0]
            errors.append((rows[user] - output)[1:].square().sum())  # without the padding item
        squares = model.encoder.square().sum() + model.decoder.square().sum()
        return {
            "reconstruction": torch.stack(errors).mean(),
            "decay": 0.4 * squares / 2 / 90,
        }

    assert_same(model, plain)
    user, item = model.eval().final_embeddings()
    hidden = torch.sigmoid(model.encoder.T @ rows[12] + model.hidden_bias)
    assert_close(user[12] @ item.T, model.decoder @ hidden + model.output_bias[:, 0])


def test_a_batch_of_the_padding_user_alone_teaches_nothing(build):
    terms = build("AutoRec").loss_terms(Interaction({"user_id": torch.zeros(1, dtype=torch.int64)}))
    assert terms["reconstruction"].item() == 0


# --- softmax ---------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_by", ["interaction", "user"])
def test_the_softmax_models_are_our_teacher(build, batch_by):
    for name, n_layers in (("SoftmaxLightGCN", 3), ("SoftmaxMF", 0)):
        model, teacher = (
            build(which, batch_by=batch_by, n_layers=n_layers)
            for which in (name, "LightGNNTeacher")
        )
        assert isinstance(model, SoftmaxLightGCN)
        ours, theirs = (m.loss_terms(m.batch) for m in (model, teacher))
        assert ours.keys() == theirs.keys() == {"interaction", "decay"}
        for term, value in theirs.items():
            assert ours[term].item() == value.item()
        scores = [torch.cat(m.eval().final_embeddings()) for m in (model, teacher)]
        assert torch.equal(*scores)


# --- tests that every baseline passes --------------------------------------------------------


@EVERY
def test_scores_are_products_of_two_tables_of_the_expected_width(build, name):
    model = build(name).eval()
    user, item = final_tables(model)
    users, items = torch.tensor([1, 5, 90, 5]), torch.tensor([60, 3, 1, 7])
    batch = Interaction({model.USER_ID: users, model.ITEM_ID: items})
    with torch.no_grad():
        rows = model.full_sort_predict(batch).view(4, model.n_items)
        pairs = model.predict(batch)
    assert_close(rows, user[users] @ item.T)
    assert_close(pairs, rows[torch.arange(4), items])
    settings = {"embedding_size": 4, "n_layers": getattr(model, "n_layers", None)}
    settings |= {"ranking_norm": 1.0, "ranking_prior": 0.0, "tower_hidden": 0}
    assert model.widths(settings)[1] == user.shape[1] == item.shape[1]


@EVERY
def test_the_padding_rows_learn_nothing(build, name):
    without = ("DirectAU", "ELSA", "CompressedELSA")
    model = build(name) if name in without else build(name, reg_weight=0.0)
    model.calculate_loss(model.batch).backward()
    for parameter in model.parameters():
        if len(parameter) in (model.n_users, model.n_items):
            assert parameter.grad[0].abs().max() == 0
            assert parameter.grad[1:].abs().max() > 0


@EVERY
def test_sizes_count_what_is_trained(build, name):
    sizes = build(name).sizes()
    entries = {"BiasMF": 4 * 150 + 60, "AutoRec": 2 * 4 * 60 + 4 + 60}
    entries |= {"HCCF": 4 * 150 + 2 * 4 * 128}
    entries |= {"PinSage": 4 * 150 + 2 * (4 * 5 + 8 * 4 + 4) + 4 * 5 + 4 * 4}
    entries |= {"STARGCN": 4 * 150 + 2 * 2 * (2 * 4 * 64 + 3 * 4 * 4)}
    entries |= {"AutoCF": 4 * 150 + 3 * 4 * 4, "SimRec": 4 * 150 + 4 * 4}
    entries |= {"ELSA": 4 * 60, "CompressedELSA": 4 * 60}
    entries = entries.get(name, 4 * 150)
    padding = {"BiasMF": 4 * 2 + 1, "AutoRec": 2 * 4 + 1, "ELSA": 4, "CompressedELSA": 4}
    padding = padding.get(name, 4 * 2)
    graph = {"GraphDA": 810 * (4 + 4 + 4)}.get(name, 0)  # two nodes and a weight of an edge
    width = {"CompressedELSA": 4 + 2}.get(name, 4)  # bytes of an entry, with its column
    assert sizes == {
        "interactions": 810,
        "entries": entries,
        "entries_kept": 1.0,
        "parameters": entries,
        "bytes": width * (entries + padding) + graph,
    }


# Enough to learn this world. A community has 20 of the 60 items, so a random ranking finds a third.
LEARNT = {"epochs": 40, "learning_rate": 0.02, "train_batch_size": 256, "stopping_step": 40}
OWN = {
    "DirectAU": {"n_layers": 1},
    "SimGCL": {"contrast_weight": 0.005},
    "XSimGCL": {"contrast_weight": 0.05},
    "AutoRec": {"train_batch_size": 16, "epochs": 40},
    "CompressedELSA": {"kept_share": 1.0},
    "UltraGCN": {"negative_weight": 5.0},
    "LightGCL": {"contrast_weight": 0.01},
}


@pytest.mark.slow
@UNTAUGHT
def test_it_learns_the_planted_world_from_the_command_line(name, tmp_path, capsys):
    write_planted(tmp_path / "dataset")
    settings = LEARNT | {"embedding_size": 16, "show_progress": False} | OWN.get(name, {})
    flags = [f"--{key}={value}" for key, value in settings.items()]
    file = tmp_path / "record.json"
    command = ["run", f"--model={name}", "--dataset=planted", f"--result_file={file}", *flags]
    assert main(command) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    (row,) = record["rows"]
    assert (row["key"], row["stage"], row["model"], row["run"]) == (name, name, name, None)
    assert (row["interactions_kept"], row["entries_kept"]) == (1.0, 1.0)
    assert record["test"]["recall@20"] > 0.8
    assert name in capsys.readouterr().out


@pytest.mark.slow
@UNTAUGHT
def test_it_may_be_the_teacher(name, tmp_path):
    write_planted(tmp_path / "dataset")
    own = LEARNT | {"epochs": 20, "embedding_size": 16} | OWN.get(name, {})
    settings = quick_settings(n_pruning_runs=1, use_intermediate=False)
    settings |= {"teacher": name, "teacher_settings": own, "learning_rate": 0.01}
    record = run("LightGNN", "planted", settings=settings)
    rows = record["rows"]
    assert [row["key"] for row in rows] == ["teacher", "student-00", "student-01"]
    assert rows[0]["model"] == name
    assert rows[0]["settings"]["embedding_size"] == 16
    assert record["test"]["recall@20"] > 0.8


@pytest.mark.slow
@UNTAUGHT
def test_unmodified_recbole_trains_and_loads_it(name, tmp_path):
    write_planted(tmp_path / "dataset")
    settings = {"show_progress": False, "epochs": 2, "embedding_size": 8}
    result = run_recbole(model=name, dataset="planted", config_dict=settings)
    (path,) = (tmp_path / "saved").glob(f"{name}-planted-*/{name}.safetensors")
    config, model, _, _, valid, test = load_data_and_model(model_file=str(path))
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    assert trainer.evaluate(valid, load_best_model=False) == result["best_valid_result"]
    assert trainer.evaluate(test, load_best_model=False) == result["test_result"]


def test_its_checkpoint_may_teach(tmp_path):
    write_planted(tmp_path / "dataset")
    own = {"show_progress": False, "epochs": 3, "embedding_size": 16}
    first = run("SimGCL", "planted", settings=own)
    file = Path(first["result_file"]).with_name("SimGCL.safetensors")
    settings = quick_settings(
        n_pruning_runs=0, use_intermediate=False, teacher="SimGCL", teacher_checkpoint=str(file)
    )
    rows = run("LightGNN", "planted", settings=settings)["rows"]
    assert [row["key"] for row in rows] == ["teacher", "student-00"]
    assert rows[0]["valid"]["recall@20"] == first["best_valid"]["recall@20"]


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("XSimGCL", {"contrast_layer": 4}, r"contrast_layer must be one of the n_layers \(3\)"),
        ("SimGCL", {"n_layers": 0}, r"n_layers must be an integer >= 1, got 0"),
        ("SimGCL", {"contrast_temperature": 0}, "contrast_temperature must be a number > 0, got 0"),
        ("SimGCL", {"contrast_layer": 1}, "contrast_layer is a setting of XSimGCL, not of SimGCL"),
        ("SoftmaxMF", {"n_layers": 1}, "n_layers must be an integer x with 0 <= x <= 0, got 1"),
        ("AutoRec", {"batch_by": "interaction"}, "batch_by must be one of user"),
        ("BiasMF", {"noise": 0.1}, "noise is a setting of SimGCL and XSimGCL, not of BiasMF"),
    ],
)
def test_settings_that_cannot_be_are_refused(build, name, settings, message):
    with pytest.raises(InputError, match=message):
        build(name, **settings)


@pytest.mark.parametrize("name", ["LRGCCF", "BiasMF", "AutoRec"])
def test_a_teacher_of_another_width_is_refused_before_it_is_trained(build, name):
    kd = {"embedding_kd_weight": 0.1, "use_intermediate": False, "initial_embedding": "xavier"}
    with pytest.raises(InputError, match="embedding_kd_weight compares embeddings of one width"):
        build("LightGNN", teacher=name, **kd, teacher_settings={"embedding_size": 4})


def test_every_baseline_is_a_class_with_its_name():
    assert {get_model(name).__name__ for name in BASELINES} == set(BASELINES)
