"""Answers of an exported model, compared to plain loops over a small model."""

import threading
import tracemalloc
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from helpers.model_files import SECRET, file_of, random_model, tokens_of, unpack

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.serving import Recommender as ExportedName
from recbole_lightgnn.serving import ids
from recbole_lightgnn.serving.coding import Pairs
from recbole_lightgnn.serving.ids import Hashes, Ids, Tokens, derive_key, hash_tokens
from recbole_lightgnn.serving.model import NO_PAIRS, Graph, Model
from recbole_lightgnn.serving.ranking import top_k
from recbole_lightgnn.serving.recommender import Recommender


def propagate_densely(model):
    """Final embeddings in float64: sum over k of c_k A^k E, with the dense matrix A."""
    n_users, n_items = len(model.user), len(model.item)
    graph = model.graph
    matrix = np.zeros((n_users + n_items, n_users + n_items))
    for user, item, weight in zip(*graph.pairs, graph.weight, strict=True):
        a, b = graph.exponents
        norm = float(graph.user_degree[user]) ** -a * float(graph.item_degree[item]) ** -b
        matrix[user, n_users + item] = matrix[n_users + item, user] = weight * norm
    power = np.concatenate([model.user, model.item]).astype(np.float64)
    total = np.zeros_like(power)
    for coefficient in graph.coefficients:
        total += coefficient * power
        power = matrix @ power
    return total[:n_users], total[n_users:]


def world(**settings):
    """A random model of 12 users and 30 items, and its recommender."""
    model = random_model(5, n_users=12, n_items=30, width=6, **settings)
    return model, Recommender(model)


def seen_by(model, user):
    """Items of a user in the file: edges and seen interactions."""
    pairs = [model.seen, *([model.graph.pairs] if model.graph else [])]
    return {int(i) for part in pairs for u, i in zip(*part, strict=True) if u == user}


# --- top k -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_columns", [1, 2, 7, 8, 9, 64, 100])
@pytest.mark.parametrize("seed", range(5))
def test_top_k_is_exact_even_with_ties(n_columns, seed):
    draw = np.random.default_rng(seed)
    scores = draw.integers(0, 4 if seed % 2 else 1000, (20, n_columns)).astype(np.float32)
    scores[draw.random(scores.shape) < 0.2] = -np.inf
    scores[3] = -np.inf
    for k in {1, 2, min(10, n_columns), n_columns}:
        columns, values = top_k(scores, k)
        for row, (got, value) in enumerate(zip(columns, values, strict=True)):
            order = [c for c in range(n_columns) if scores[row, c] > -np.inf]
            order = sorted(order, key=lambda c: (-scores[row, c], c))[:k]
            assert got.tolist() == order + [-1] * (k - len(order))
            assert value.tolist() == [scores[row, c] for c in order] + [-np.inf] * (k - len(order))


# --- recommend -------------------------------------------------------------------------------


EXPONENTS = [(0.5, 0.5), (0.4, 0.1), (0.0, 1.0)]


@pytest.mark.parametrize("exponents", EXPONENTS)
@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_final_embeddings_are_the_polynomial(layers, exponents):
    model, recommender = world(layers=layers, exponents=exponents)
    for got, truth in zip(
        (recommender.user, recommender.item), propagate_densely(model), strict=True
    ):
        np.testing.assert_allclose(got, truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("max_scores", [1, 100, 1 << 22])
def test_the_best_unseen_items_by_a_plain_loop(final, max_scores, monkeypatch):
    # With 1, a chunk is one user.
    monkeypatch.setattr("recbole_lightgnn.serving.recommender._MAX_SCORES", max_scores)
    model, recommender = world(final=final)
    names = [str(7 * item) for item in range(30)]
    ranked = recommender.recommend([str(7 * user) for user in range(12)], 5)
    everything = recommender.recommend(
        [str(7 * user) for user in range(12)], 30, exclude_seen=False
    )
    few = recommender.recommend(["7"], 3, filter_items=["14", "70", "14", "203"])
    for user in range(12):
        scores = recommender.item.astype(np.float64) @ recommender.user[user]
        order = sorted(range(30), key=lambda item: -scores[item])
        unseen = [item for item in order if item not in seen_by(model, user)]
        assert ranked.items[user].tolist() == [names[item] for item in unseen[:5]]
        np.testing.assert_allclose(ranked.scores[user], scores[unseen[:5]], rtol=1e-4, atol=1e-5)
        assert everything.items[user].tolist() == [names[item] for item in order]
        if user == 1:
            allowed = [item for item in unseen if item in (2, 10, 29)]
            expected = [names[item] for item in allowed] + [None] * (3 - len(allowed))
            assert few.items[0].tolist() == expected


def test_seen_items_can_be_given():
    _, recommender = world()
    every = [str(7 * item) for item in range(30)]
    ranked = recommender.recommend(["0", "7"], 4, exclude_seen=[every[:27], []])
    assert set(ranked.items[0]) == {*every[27:], None}
    assert ranked.items[0, 3] is None
    assert ranked.scores[0, 3] == -np.inf
    assert ranked.items[1].tolist() == recommender.recommend(["7"], 4, False).items[0].tolist()
    with pytest.raises(InputError, match="has lists for 1 users, but 2 users are given"):
        recommender.recommend(["0", "7"], 4, exclude_seen=[every])
    assert recommender.recommend(["7"], 4, np.False_).items.tolist() == [ranked.items[1].tolist()]
    for wrong in (None, 1, "7"):
        with pytest.raises(InputError, match="exclude_seen must be True, False or a list"):
            recommender.recommend(["0"], 4, wrong)


def test_excluded_items_are_recommended_to_no_user():
    _, recommender = world()
    users = ["0", "7", "0"]
    order = recommender.recommend(users, 30)
    gone = [str(order.items[0, 0]), str(order.items[1, 2]), str(order.items[0, 0])]
    ranked = recommender.recommend(users, 30, exclude_items=gone)
    for got, before in zip(ranked.items, order.items, strict=True):
        left = [item for item in before if item is not None and item not in gone]
        assert got.tolist() == left + [None] * (30 - len(left))
    few = recommender.recommend(["0"], 3, False, filter_items=["0", *gone], exclude_items=gone)
    assert few.items.tolist() == [["0", None, None]]
    with pytest.raises(InputError, match="no item '1'"):
        recommender.recommend(users, 1, exclude_items=["1"])


def test_a_million_users_in_one_call():
    _, recommender = world()
    users = [str(7 * (n % 12)) for n in range(1_000_000)]
    ranked = recommender.recommend(users, 2)
    first = recommender.recommend(users[:12], 2)
    assert ranked.items.shape == (1_000_000, 2)
    assert (ranked.items[: 12 * 80_000].reshape(-1, 12, 2) == first.items).all()


def test_excluded_items_are_not_copied_for_each_user():
    recommender = Recommender(random_model(0, n_users=2, n_items=2000, kept=1))
    gone = [str(7 * n) for n in range(1000)]
    tracemalloc.start()
    ranked = recommender.recommend(["0"] * 20_000, 3, False, exclude_items=gone)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(ranked.items.ravel().tolist()).isdisjoint(gone)
    assert peak < 8 * 20_000 * 1000, "bytes of one integer per user and excluded item"


def test_no_users_and_no_items():
    _, recommender = world()
    assert recommender.recommend([], 3).items.shape == (0, 3)
    assert recommender.recommend(["0"], 2, filter_items=[]).items.tolist() == [[None, None]]
    assert recommender.score([], []).tolist() == []


@pytest.mark.parametrize("final", [False, True])
def test_models_without_users_or_items(final):
    no_users = Recommender(random_model(n_users=0, final=final))
    assert no_users.recommend([], 3).items.shape == (0, 3)
    assert no_users.similar_items(["0"], 7).items.shape == (1, 7)
    with pytest.raises(InputError, match="no user '0'"):
        no_users.recommend(["0"], 3)
    no_items = Recommender(random_model(n_items=0, final=final))
    with pytest.raises(InputError, match=r"k must be a whole number from 1 to .* 0, got 1"):
        no_items.recommend(["0"], 1)


@pytest.mark.parametrize("k", [0, -1, 31, 2.0, float("nan"), None, "3"])
def test_an_invalid_k_is_refused(k):
    _, recommender = world()
    for method in (recommender.recommend, recommender.fold_in, recommender.similar_items):
        with pytest.raises(InputError, match=r"k must be a whole number from 1 to .* 30, got"):
            method(["0"], k)


def test_unknown_users_and_items_are_refused():
    _, recommender = world()
    for users, what in (
        (["1"], r"no user '1': users are numbers from 0 to 77"),
        ([float("nan")], "no user nan"),
        ([None], "no user None"),
        ("77", "users must be a list, got the single name '77'"),
        (7, "users must be a list, got 7"),
        (["0", "x" * 500], r"no user 'x{50,56}\.\.\.: users"),
    ):
        with pytest.raises(InputError, match=what):
            recommender.recommend(users, 1)
    with pytest.raises(InputError, match=r"no item '1': items are numbers from 0 to 203"):
        recommender.recommend(["0"], 1, filter_items=["1"])
    words = Tokens("item", ["apple", "banana", "cherry"])
    with pytest.raises(InputError, match=r"no item 'banan' \(did you mean 'banana'\?\)"):
        words.number("banan")
    with pytest.raises(InputError, match=r"no item 'zzz'$"):
        words.number("zzz")
    with pytest.raises(InputError, match=r"no user '9': the file has no names, only the numbers 0"):
        Ids("user", 9).number("9")
    assert Ids("user", 9).number(8) == 8
    for name in ("-1", "1.0", "²", " 1", "9" * 30):
        with pytest.raises(InputError):
            Ids("user", 9).number(name)


# --- score, similar items --------------------------------------------------------------------


def test_scores_are_inner_products():
    _, recommender = world()
    got = recommender.score(["0", "7", "7"], ["0", "203", "14"])
    expected = [
        recommender.user[0] @ recommender.item[0],
        *(recommender.user[1] @ recommender.item[i] for i in (29, 2)),
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="there are 1 users and 2 items"):
        recommender.score(["0"], ["0", "7"])


def test_similar_items_have_the_largest_cosines():
    _, recommender = world()
    got = recommender.similar_items(["14", "21"], 30)
    for row, item in enumerate((2, 3)):
        lengths = np.linalg.norm(recommender.item, axis=1)
        cosines = recommender.item @ recommender.item[item] / (lengths * lengths[item])
        order = [i for i in np.argsort(-cosines) if i != item]
        assert got.items[row].tolist() == [*(str(7 * i) for i in order), None]
        np.testing.assert_allclose(got.scores[row, :-1], cosines[order], rtol=1e-4, atol=1e-5)


def test_an_item_with_a_zero_embedding_has_cosine_0():
    model = random_model(0, final=True)
    model.item[3] = 0
    assert Recommender(model).similar_items(["21"], 2).scores.tolist() == [[0, 0]]


@pytest.mark.filterwarnings("error")
def test_cosines_where_squares_of_embeddings_overflow():
    model = random_model(0, final=True)
    usual = Recommender(model).similar_items(["0", "7"], 3)
    model.item[:] *= np.float32(1e25)
    large = Recommender(model).similar_items(["0", "7"], 3)
    assert large.items.tolist() == usual.items.tolist()
    np.testing.assert_allclose(large.scores, usual.scores, rtol=1e-5)


# --- fold in, explain ------------------------------------------------------------------------


@pytest.mark.parametrize("exponents", EXPONENTS)
@pytest.mark.parametrize("layers", [1, 2])
def test_fold_in_equals_a_new_user_in_the_graph_without_an_embedding(layers, exponents):
    """The embeddings of the items stay unchanged."""
    model, recommender = world(layers=layers, exponents=exponents)
    history = [3, 8, 20]
    pairs = model.graph.pairs
    new = Graph(
        Pairs(np.append(pairs.user, [12] * 3), np.append(pairs.item, history)),
        np.append(model.graph.weight, [1, 1, 1]),
        np.append(model.graph.user_degree, 3),
        model.graph.item_degree,
        model.graph.coefficients,
        exponents,
    )
    with_user = Model(
        *(
            Ids("user", 13),
            model.items,
            np.append(model.user, np.zeros((1, 6)), axis=0),
            model.item,
        ),
        new,
        NO_PAIRS,
        {},
    )
    row = propagate_densely(with_user)[0][12]
    assert (model.graph.item_degree[history] > 0).all()
    scores = recommender.item @ row
    order = [i for i in np.argsort(-scores) if i not in history]
    got = recommender.fold_in([*(str(7 * i) for i in history), "21"], 30)
    assert got.items[0].tolist() == [*(str(7 * i) for i in order), None, None, None]
    np.testing.assert_allclose(got.scores[0, :27], scores[order], rtol=1e-4, atol=1e-5)


def test_fold_in_needs_items_and_edges():
    _, recommender = world()
    with pytest.raises(InputError, match="fold_in needs at least one item of the user, got none"):
        recommender.fold_in([], 3)
    _, final = world(final=True)
    with pytest.raises(InputError, match="fold_in needs the model's edges"):
        final.fold_in(["0"], 3)
    with pytest.raises(InputError, match=r"explain needs the model's edges.*--form graph"):
        final.explain("0", "0")


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_an_explanation_adds_up_to_the_score_by_a_plain_loop(layers):
    model, recommender = world(layers=layers)
    graph = model.graph
    items = propagate_densely(model)[1]
    for user in range(12):
        why = recommender.explain(7 * user, "70")
        target = items[10]
        np.testing.assert_allclose(
            why.own + why.contributions.sum(), why.score, rtol=1e-5, atol=1e-5
        )
        np.testing.assert_allclose(
            why.score, recommender.user[user] @ recommender.item[10], rtol=1e-5, atol=1e-5
        )
        own = graph.coefficients[0] * model.user[user].astype(np.float64) @ target
        np.testing.assert_allclose(why.own, own, rtol=1e-4, atol=1e-5)
        of_user = graph.pairs.user == user
        kept = dict(zip(graph.pairs.item[of_user], graph.weight[of_user], strict=True))
        assert sorted(why.items) == sorted(str(7 * item) for item in kept)
        assert (np.diff(why.contributions) <= 0).all()
        for name, weight, contribution in zip(
            why.items, why.weights, why.contributions, strict=True
        ):
            item = int(name) // 7
            assert weight == kept[item]
            # h_j is the polynomial of one degree less, with coefficients c_1, c_2, ...
            lower = Model(
                *(model.users, model.items, model.user, model.item),
                Graph(
                    *(graph.pairs, graph.weight, graph.user_degree, graph.item_degree),
                    graph.coefficients[1:] or [0.0],
                ),
                NO_PAIRS,
                {},
            )
            message = propagate_densely(lower)[1][item]
            norm = np.sqrt(float(graph.user_degree[user]) * float(graph.item_degree[item]))
            np.testing.assert_allclose(
                contribution, weight / norm * (message @ target), rtol=1e-4, atol=1e-5
            )


# --- names -----------------------------------------------------------------------------------


def hashed_model(secret=SECRET):
    """A final model like that of `world` with hashed names, and the order of the hashes."""
    model, _ = world()
    sides, orders = [], []
    for what, size in (("user", 12), ("item", 30)):
        hashes = hash_tokens(
            what, [f"{what} {number}" for number in range(size)], derive_key(secret)
        )
        orders.append(np.argsort(hashes))
        sides.append(Hashes(what, hashes[orders[-1]]))
    user, item = model.user[orders[0]], model.item[orders[1]]
    return Model(*sides, user, item, None, NO_PAIRS, {}), orders


def test_hashed_names_are_found_with_the_key():
    model, orders = hashed_model()
    content = file_of(model, "float32", SECRET)
    stored = b"".join(array.tobytes() for array in unpack(content)[1].values())
    assert b"user 1" not in content + stored
    Path("model.lgnn").write_bytes(content)
    recommender = Recommender.load("model.lgnn", SECRET)
    ranked = recommender.recommend(["user 10"], 3)
    place = int(np.flatnonzero(orders[0] == 10)[0])
    best = np.argsort(-(model.item @ model.user[place]))[:3]
    assert ranked.items[0].tolist() == [
        recommender.items.name_of(f"item {orders[1][i]}") for i in best
    ]
    assert all(len(name) == 16 for name in ranked.items[0])
    # The hashes in an answer can be used in the next query, with or without the key.
    assert recommender.score(["user 10"] * 3, ranked.items[0]).tolist() == ranked.scores[0].tolist()
    again = recommender.recommend(
        [recommender.users.name_of("user 10")], 3, filter_items=ranked.items[0]
    )
    assert again.items.tolist() == ranked.items.tolist()
    without = Recommender.load("model.lgnn")
    same = without.recommend(
        [recommender.users.name_of("user 10")], 3, filter_items=ranked.items[0]
    )
    assert same.items.tolist() == ranked.items.tolist()
    with pytest.raises(InputError, match="no user 'user 10': the file has hashes instead of names"):
        without.recommend(["user 10"], 3)
    with pytest.raises(
        InputError, match="no user 'user 71', or the names were hashed with another key"
    ):
        recommender.recommend(["user 71"], 3)
    with pytest.raises(InputError, match="no user"):
        recommender.recommend(["\ud800"], 3)
    name = recommender.users.name_of("user 10")
    for spelt in (f"0x{name}", f" {name}", f"{name}\n", f"0{name}", f"{name[:4]}_{name[4:]}"):
        with pytest.raises(InputError, match="no user"):
            without.recommend([spelt], 3)
    with pytest.raises(InputError, match="--key does not fit: the names in this model were hashed"):
        Recommender.load("model.lgnn", b"another key, of some length")
    with pytest.raises(InputError, match="a key of 5 bytes can be guessed"):
        Recommender.load("model.lgnn", b"short")
    Path("plain.lgnn").write_bytes(file_of(random_model(0)))
    with pytest.raises(InputError, match=r"--key does not fit: .* not hashed"):
        Recommender.load("plain.lgnn", SECRET)
    other, _ = hashed_model(b"another key, of some length")
    assert set(other.users.names(np.arange(12))).isdisjoint(without.users.names(np.arange(12)))
    # A user and an item with the same token have different hashes.
    assert recommender.users.name_of("70") != recommender.items.name_of("70")
    with pytest.raises(InputError, match="a key must be bytes, got str"):
        Recommender.load("model.lgnn", SECRET.decode())


def test_a_hash_is_as_docs_format_says():
    key = blake2b(SECRET, person=b"lgnn key").digest()
    (value,) = hash_tokens("user", ["ü7"], derive_key(SECRET)).tolist()
    digest = blake2b("ü7".encode(), digest_size=8, key=key, person=b"lgnn user").digest()
    assert value == int.from_bytes(digest, "big") == 0xA15DD73A0E1EC381


@pytest.mark.parametrize("kind", ["none", "numbers", "words", "hashed"])
def test_names_and_numbers_convert_into_each_other(kind):
    users = tokens_of("user", kind, 20)
    numbers = np.arange(20)
    names = users.names(numbers)
    assert users.numbers(names).tolist() == numbers.tolist()
    assert users.names(np.array([[3, -1]])).tolist() == [[names[3], None]]


# --- threads, and the package ----------------------------------------------------------------


def test_threads_share_a_recommender():
    model = random_model(9, n_users=300, n_items=200, width=8)
    expected = Recommender(model).recommend([str(7 * n) for n in range(300)], 10).items
    similar = Recommender(model).similar_items(["7"], 5).items.tolist()
    recommender = Recommender(model)
    wrong = []

    def ask(seed):
        draw = np.random.default_rng(seed)
        for _ in range(40):
            users = draw.integers(0, 300, draw.integers(1, 20))
            got = recommender.recommend([str(7 * user) for user in users], 10).items
            if (got != expected[users]).any() or recommender.similar_items(
                ["7"], 5
            ).items.tolist() != similar:
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_package_exports_the_class_and_nothing_else():
    from recbole_lightgnn import serving

    assert ExportedName is Recommender
    with pytest.raises(AttributeError, match="has no attribute 'Recomender'"):
        serving.Recomender  # noqa: B018
    assert ids.KINDS == ("tokens", "hashed", "none")
