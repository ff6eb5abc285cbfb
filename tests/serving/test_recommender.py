"""What an exported model answers, beside plain loops over a small world."""

import threading
import tracemalloc
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from helpers.model_files import SECRET, file_of, random_model, tokens_of, unpack

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.serving import Recommender as Offered
from recbole_lightgnn.serving import ids, recommender
from recbole_lightgnn.serving.coding import Pairs
from recbole_lightgnn.serving.ids import Hashes, Ids, Tokens, hashed, key_of
from recbole_lightgnn.serving.model import NO_PAIRS, Graph, Model
from recbole_lightgnn.serving.ranking import largest
from recbole_lightgnn.serving.recommender import Recommender


def plainly_propagated(model):
    """Final embeddings in float64: the sum of c_k times the k-th power of the whole matrix."""
    n_users, n_items = len(model.user), len(model.item)
    graph = model.graph
    matrix = np.zeros((n_users + n_items, n_users + n_items))
    for user, item, weight in zip(*graph.pairs, graph.weight, strict=True):
        norm = np.sqrt(float(graph.user_degree[user]) * float(graph.item_degree[item]))
        matrix[user, n_users + item] = matrix[n_users + item, user] = weight / norm
    power = np.concatenate([model.user, model.item]).astype(np.float64)
    total = np.zeros_like(power)
    for coefficient in graph.coefficients:
        total += coefficient * power
        power = matrix @ power
    return total[:n_users], total[n_users:]


def world(**settings):
    model = random_model(5, n_users=12, n_items=30, width=6, **settings)
    return model, Recommender(model)


def seen_by(model, user):
    """Items of a user in the file: edges, and what is listed beside them."""
    pairs = [model.seen, *([model.graph.pairs] if model.graph else [])]
    return {int(i) for part in pairs for u, i in zip(*part, strict=True) if u == user}


# --- the largest -----------------------------------------------------------------------------


@pytest.mark.parametrize("n_columns", [1, 2, 7, 8, 9, 64, 100])
@pytest.mark.parametrize("seed", range(5))
def test_the_largest_are_exact_also_among_equal_ones(n_columns, seed):
    draw = np.random.default_rng(seed)
    scores = draw.integers(0, 4 if seed % 2 else 1000, (20, n_columns)).astype(np.float32)
    scores[draw.random(scores.shape) < 0.2] = -np.inf
    scores[3] = -np.inf
    for k in {1, 2, min(10, n_columns), n_columns}:
        columns, values = largest(scores, k)
        for row, (got, value) in enumerate(zip(columns, values, strict=True)):
            order = [c for c in range(n_columns) if scores[row, c] > -np.inf]
            order = sorted(order, key=lambda c: (-scores[row, c], c))[:k]
            assert got.tolist() == order + [-1] * (k - len(order))
            assert value.tolist() == [scores[row, c] for c in order] + [-np.inf] * (k - len(order))


# --- recommend -------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_final_embeddings_are_the_polynomial(layers):
    model, ours = world(layers=layers)
    for got, truth in zip((ours.user, ours.item), plainly_propagated(model), strict=True):
        np.testing.assert_allclose(got, truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("held", [1, 100, 1 << 22])
def test_the_best_unseen_items_by_a_plain_loop(final, held, monkeypatch):
    monkeypatch.setattr(recommender, "_SCORES", held)  # also a user at a time
    model, ours = world(final=final)
    names = [str(7 * item) for item in range(30)]
    ranked = ours.recommend([str(7 * user) for user in range(12)], 5)
    everything = ours.recommend([str(7 * user) for user in range(12)], 30, exclude_seen=False)
    few = ours.recommend(["7"], 3, filter_items=["14", "70", "14", "203"])
    for user in range(12):
        scores = ours.item.astype(np.float64) @ ours.user[user]
        order = sorted(range(30), key=lambda item: -scores[item])
        unseen = [item for item in order if item not in seen_by(model, user)]
        assert ranked.items[user].tolist() == [names[item] for item in unseen[:5]]
        np.testing.assert_allclose(ranked.scores[user], scores[unseen[:5]], rtol=1e-4, atol=1e-5)
        assert everything.items[user].tolist() == [names[item] for item in order]
        if user == 1:
            allowed = [item for item in unseen if item in (2, 10, 29)]
            expected = [names[item] for item in allowed] + [None] * (3 - len(allowed))
            assert few.items[0].tolist() == expected


def test_who_knows_what_was_seen_says_it():
    _, ours = world()
    every = [str(7 * item) for item in range(30)]
    ranked = ours.recommend(["0", "7"], 4, exclude_seen=[every[:27], []])
    assert set(ranked.items[0]) == {*every[27:], None}
    assert ranked.items[0, 3] is None
    assert ranked.scores[0, 3] == -np.inf
    assert ranked.items[1].tolist() == ours.recommend(["7"], 4, False).items[0].tolist()
    with pytest.raises(InputError, match="has items of 1 users, and 2 are asked about"):
        ours.recommend(["0", "7"], 4, exclude_seen=[every])
    assert ours.recommend(["7"], 4, np.False_).items.tolist() == [ranked.items[1].tolist()]
    for wrong in (None, 1, "7"):
        with pytest.raises(InputError, match="exclude_seen must be True, False or a list"):
            ours.recommend(["0"], 4, wrong)


def test_items_that_are_recommended_to_nobody():
    _, ours = world()
    users = ["0", "7", "0"]
    order = ours.recommend(users, 30)
    gone = [str(order.items[0, 0]), str(order.items[1, 2]), str(order.items[0, 0])]
    ranked = ours.recommend(users, 30, exclude_items=gone)
    for got, before in zip(ranked.items, order.items, strict=True):
        left = [item for item in before if item is not None and item not in gone]
        assert got.tolist() == left + [None] * (30 - len(left))
    few = ours.recommend(["0"], 3, False, filter_items=["0", *gone], exclude_items=gone)
    assert few.items.tolist() == [["0", None, None]]
    with pytest.raises(InputError, match="no item '1'"):
        ours.recommend(users, 1, exclude_items=["1"])


def test_a_million_users_in_one_call():
    _, ours = world()
    users = [str(7 * (n % 12)) for n in range(1_000_000)]
    ranked = ours.recommend(users, 2)
    first = ours.recommend(users[:12], 2)
    assert ranked.items.shape == (1_000_000, 2)
    assert (ranked.items[: 12 * 80_000].reshape(-1, 12, 2) == first.items).all()


def test_what_nobody_gets_is_not_held_for_each_user():
    ours = Recommender(random_model(0, n_users=2, n_items=2000, kept=1))
    gone = [str(7 * n) for n in range(1000)]
    tracemalloc.start()
    ranked = ours.recommend(["0"] * 20_000, 3, False, exclude_items=gone)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(ranked.items.ravel().tolist()).isdisjoint(gone)
    assert peak < 8 * 20_000 * 1000, "a number for each user and each of them"


def test_no_users_and_no_items():
    _, ours = world()
    assert ours.recommend([], 3).items.shape == (0, 3)
    assert ours.recommend(["0"], 2, filter_items=[]).items.tolist() == [[None, None]]
    assert ours.score([], []).tolist() == []


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
def test_a_k_that_is_none(k):
    _, ours = world()
    for ask in (ours.recommend, ours.fold_in, ours.similar_items):
        with pytest.raises(InputError, match=r"k must be a whole number from 1 to .* 30, got"):
            ask(["0"], k)


def test_users_and_items_that_are_not_there():
    _, ours = world()
    for users, what in (
        (["1"], r"no user '1': they are numbers from 0 to 77"),
        ([float("nan")], "no user nan"),
        ([None], "no user None"),
        ("77", "users must be a list, got '77' alone"),
        (7, "users must be a list, got 7"),
        (["0", "x" * 500], r"no user 'x{50,56}\.\.\.: they"),
    ):
        with pytest.raises(InputError, match=what):
            ours.recommend(users, 1)
    with pytest.raises(InputError, match=r"no item '1': they are numbers from 0 to 203"):
        ours.recommend(["0"], 1, filter_items=["1"])
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


# --- score, similar items ----------------------------------------------------------------------


def test_scores_are_inner_products():
    _, ours = world()
    got = ours.score(["0", "7", "7"], ["0", "203", "14"])
    expected = [ours.user[0] @ ours.item[0], *(ours.user[1] @ ours.item[i] for i in (29, 2))]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="there are 1 users and 2 items"):
        ours.score(["0"], ["0", "7"])


def test_similar_items_have_the_largest_cosines():
    _, ours = world()
    got = ours.similar_items(["14", "21"], 30)
    for row, item in enumerate((2, 3)):
        lengths = np.linalg.norm(ours.item, axis=1)
        cosines = ours.item @ ours.item[item] / (lengths * lengths[item])
        order = [i for i in np.argsort(-cosines) if i != item]
        assert got.items[row].tolist() == [*(str(7 * i) for i in order), None]
        np.testing.assert_allclose(got.scores[row, :-1], cosines[order], rtol=1e-4, atol=1e-5)


def test_an_item_without_length_is_similar_to_none():
    model = random_model(0, final=True)
    model.item[3] = 0
    assert Recommender(model).similar_items(["21"], 2).scores.tolist() == [[0, 0]]


@pytest.mark.filterwarnings("error")
def test_cosines_of_embeddings_whose_squares_overflow():
    model = random_model(0, final=True)
    usual = Recommender(model).similar_items(["0", "7"], 3)
    model.item[:] *= np.float32(1e25)
    large = Recommender(model).similar_items(["0", "7"], 3)
    assert large.items.tolist() == usual.items.tolist()
    np.testing.assert_allclose(large.scores, usual.scores, rtol=1e-5)


# --- fold in, explain --------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2])
def test_a_folded_in_user_gets_the_row_of_a_new_one_without_an_embedding(layers):
    """As if the user were in the graph; the items' own embeddings stay what they are."""
    model, ours = world(layers=layers)
    had = [3, 8, 20]
    pairs = model.graph.pairs
    new = Graph(
        Pairs(np.append(pairs.user, [12] * 3), np.append(pairs.item, had)),
        np.append(model.graph.weight, [1, 1, 1]),
        np.append(model.graph.user_degree, 3),
        model.graph.item_degree,
        model.graph.coefficients,
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
    row = plainly_propagated(with_user)[0][12]
    assert (model.graph.item_degree[had] > 0).all()
    scores = ours.item @ row
    order = [i for i in np.argsort(-scores) if i not in had]
    got = ours.fold_in([*(str(7 * i) for i in had), "21"], 30)
    assert got.items[0].tolist() == [*(str(7 * i) for i in order), None, None, None]
    np.testing.assert_allclose(got.scores[0, :27], scores[order], rtol=1e-4, atol=1e-5)


def test_fold_in_needs_items_and_edges():
    _, ours = world()
    with pytest.raises(InputError, match="fold_in needs items that the user had, got none"):
        ours.fold_in([], 3)
    _, final = world(final=True)
    with pytest.raises(InputError, match="fold_in needs the model's edges"):
        final.fold_in(["0"], 3)
    with pytest.raises(InputError, match=r"explain needs the model's edges.*--form graph"):
        final.explain("0", "0")


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_an_explanation_adds_up_to_the_score_and_removing_an_edge_takes_its_part(layers):
    model, ours = world(layers=layers)
    graph = model.graph
    item_of_layers = plainly_propagated(model)[1]
    for user in range(12):
        why = ours.explain(7 * user, "70")
        target = item_of_layers[10]
        np.testing.assert_allclose(
            why.own + why.contributions.sum(), why.score, rtol=1e-5, atol=1e-5
        )
        np.testing.assert_allclose(why.score, ours.user[user] @ ours.item[10], rtol=1e-5, atol=1e-5)
        own = graph.coefficients[0] * model.user[user].astype(np.float64) @ target
        np.testing.assert_allclose(why.own, own, rtol=1e-4, atol=1e-5)
        here = graph.pairs.user == user
        kept = dict(zip(graph.pairs.item[here], graph.weight[here], strict=True))
        assert sorted(why.items) == sorted(str(7 * item) for item in kept)
        assert (np.diff(why.contributions) <= 0).all()
        for name, weight, given in zip(why.items, why.weights, why.contributions, strict=True):
            item = int(name) // 7
            assert weight == kept[item]
            # h_j: the polynomial one power lower, of the whole graph
            lower = Model(
                *(model.users, model.items, model.user, model.item),
                Graph(
                    *(graph.pairs, graph.weight, graph.user_degree, graph.item_degree),
                    graph.coefficients[1:] or [0.0],
                ),
                NO_PAIRS,
                {},
            )
            carried = plainly_propagated(lower)[1][item]
            norm = np.sqrt(float(graph.user_degree[user]) * float(graph.item_degree[item]))
            np.testing.assert_allclose(
                given, weight / norm * (carried @ target), rtol=1e-4, atol=1e-5
            )


# --- names -------------------------------------------------------------------------------------


def hashed_model(secret=SECRET):
    """The model of `world` with hashed names, and the tokens in the order of their hashes."""
    model, _ = world()
    sides, orders = [], []
    for what, size in (("user", 12), ("item", 30)):
        hashes = hashed(what, [f"{what} {number}" for number in range(size)], key_of(secret))
        orders.append(np.argsort(hashes))
        sides.append(Hashes(what, hashes[orders[-1]]))
    user, item = model.user[orders[0]], model.item[orders[1]]
    return Model(*sides, user, item, None, NO_PAIRS, {}), orders


def test_hashed_names_are_found_by_who_has_the_key():
    model, orders = hashed_model()
    content = file_of(model, "float32", SECRET)
    stored = b"".join(array.tobytes() for array in unpack(content)[1].values())
    assert b"user 1" not in content + stored
    Path("model.lgnn").write_bytes(content)
    ours = Recommender.load("model.lgnn", SECRET)
    ranked = ours.recommend(["user 10"], 3)
    place = int(np.flatnonzero(orders[0] == 10)[0])
    best = np.argsort(-(model.item @ model.user[place]))[:3]
    assert ranked.items[0].tolist() == [ours.items.of(f"item {orders[1][i]}") for i in best]
    assert all(len(name) == 16 for name in ranked.items[0])
    # What is answered can be asked about, with the key too.
    assert ours.score(["user 10"] * 3, ranked.items[0]).tolist() == ranked.scores[0].tolist()
    again = ours.recommend([ours.users.of("user 10")], 3, filter_items=ranked.items[0])
    assert again.items.tolist() == ranked.items.tolist()
    without = Recommender.load("model.lgnn")
    same = without.recommend([ours.users.of("user 10")], 3, filter_items=ranked.items[0])
    assert same.items.tolist() == ranked.items.tolist()
    with pytest.raises(InputError, match="no user 'user 10': the file has hashes for names"):
        without.recommend(["user 10"], 3)
    with pytest.raises(InputError, match="no user 'user 71', or hashed with another key"):
        ours.recommend(["user 71"], 3)
    with pytest.raises(InputError, match="no user"):
        ours.recommend(["\ud800"], 3)
    name = ours.users.of("user 10")
    for spelt in (f"0x{name}", f" {name}", f"{name}\n", f"0{name}", f"{name[:4]}_{name[4:]}"):
        with pytest.raises(InputError, match="no user"):
            without.recommend([spelt], 3)
    with pytest.raises(InputError, match="--key does not fit: the names in this model are hashed"):
        Recommender.load("model.lgnn", b"another key, of some length")
    with pytest.raises(InputError, match="a key of 5 bytes can be guessed"):
        Recommender.load("model.lgnn", b"short")
    Path("plain.lgnn").write_bytes(file_of(random_model(0)))
    with pytest.raises(InputError, match=r"--key does not fit: .* not hashed"):
        Recommender.load("plain.lgnn", SECRET)
    other, _ = hashed_model(b"another key, of some length")
    assert set(other.users.names(np.arange(12))).isdisjoint(without.users.names(np.arange(12)))
    # A user and an item of one name have nothing in common.
    assert ours.users.of("70") != ours.items.of("70")
    with pytest.raises(InputError, match="a key is bytes, got a str"):
        Recommender.load("model.lgnn", SECRET.decode())


def test_a_hash_is_the_one_that_the_format_says():
    key = blake2b(SECRET, person=b"lgnn key").digest()
    (found,) = hashed("user", ["ü7"], key_of(SECRET)).tolist()
    digest = blake2b("ü7".encode(), digest_size=8, key=key, person=b"lgnn user").digest()
    assert found == int.from_bytes(digest, "big") == 0xA15DD73A0E1EC381


@pytest.mark.parametrize("kind", ["none", "numbers", "words", "hashed"])
def test_names_lead_back_and_forth(kind):
    names = tokens_of("user", kind, 20)
    every = np.arange(20)
    called = names.names(every)
    assert names.numbers(called).tolist() == every.tolist()
    assert names.names(np.array([[3, -1]])).tolist() == [[called[3], None]]


# --- together ----------------------------------------------------------------------------------


def test_threads_share_a_recommender():
    model = random_model(9, n_users=300, n_items=200, width=8)
    expected = Recommender(model).recommend([str(7 * n) for n in range(300)], 10).items
    similar = Recommender(model).similar_items(["7"], 5).items.tolist()
    ours = Recommender(model)
    wrong = []

    def ask(seed):
        draw = np.random.default_rng(seed)
        for _ in range(40):
            users = draw.integers(0, 300, draw.integers(1, 20))
            got = ours.recommend([str(7 * user) for user in users], 10).items
            if (got != expected[users]).any() or ours.similar_items(
                ["7"], 5
            ).items.tolist() != similar:
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_room_offers_the_class_and_nothing_else():
    from recbole_lightgnn import serving

    assert Offered is Recommender
    with pytest.raises(AttributeError, match="has no attribute 'Recomender'"):
        serving.Recomender  # noqa: B018
    assert ids.KINDS == ("tokens", "hashed", "none")
