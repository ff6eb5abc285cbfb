"""RecBole's own search of settings, with the real hyperopt, against a plain loop over them."""

import itertools

import pytest
from recbole.quick_start import objective_function
from recbole.trainer import HyperTuning, hyper_tuning

pytestmark = pytest.mark.filterwarnings("ignore")

MODEL = {"model": "BPR", "dataset": "small", "epochs": 1}
SEEDS = {"seed": [1, 2]}
PAIRS = {"seed": [1, 2], "embedding_size": [4, 8]}
KINDS = {
    "train_neg_sample_args": [{"sample_num": 1}, {"sample_num": 2}],
    "learner": ["sgd", "adam"],
}

LISTS = {"mlp_hidden_size": [[8, 4], [4]]}


@pytest.fixture
def objective(settings):
    """RecBole's ``objective_function`` on the small dataset."""

    def objective(params, files=None):
        return objective_function({**settings, **MODEL, **params}, files, saved=True)

    return objective


def in_a_loop(objective, choices):
    """Result of each combination, by the name that ``HyperTuning`` gives it."""
    trials = [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]
    return {HyperTuning.params2str(trial): objective(trial) for trial in trials}


def best_of(results, bigger=True):
    """Name of the best result."""
    return (max if bigger else min)(results, key=lambda name: results[name]["best_valid_score"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choices", "more"),
    [
        (SEEDS, {}),
        (PAIRS, {}),
        (KINDS, {}),
        ({"seed": [3]}, {}),
        ({"learning_rate": [0.1, 0.01, 0.001]}, {}),
        ({"reproducibility": [True, False], "seed": [7]}, {}),
        (SEEDS, {"model": "Pop"}),
        (SEEDS, {"model": "DirectAU", "train_batch_size": 32}),
        (SEEDS, {"metrics": ["GiniIndex"], "valid_metric": "GiniIndex@5"}),
        (LISTS, {"model": "NeuMF"}),
        ({"n_layers": [1, 2]}, {"model": "LightGCN"}),
    ],
)
def test_an_exhaustive_search_tries_each_combination_once(objective, choices, more):
    def chosen(params, files=None):
        return objective({**more, **params}, files)

    ordered = {name: choices[name] for name in sorted(choices)}
    expected = in_a_loop(chosen, ordered)
    search = HyperTuning(chosen, params_dict={"choice": choices}, algo="exhaustive")
    search.run()
    assert len(search.params_list) == len(expected)
    assert search.params2result == expected
    bigger = next(iter(expected.values()))["valid_score_bigger"]
    best = expected[best_of(expected, bigger)]["best_valid_score"]
    assert search.best_score == best
    assert expected[HyperTuning.params2str(search.best_params)]["best_valid_score"] == best


@pytest.mark.parametrize("algo", ["random", "bayes"])
def test_a_sampled_search_finds_the_best_of_its_trials(objective, algo, tmp_path):
    lines = "learning_rate loguniform -8,-2\nseed choice [1,2]\n"
    (tmp_path / "space.txt").write_text(lines, encoding="utf-8")
    search = HyperTuning(objective, params_file="space.txt", algo=algo, max_evals=4)
    search.run()
    assert len(search.params_list) == 4
    assert search.best_score == max(search.score_list)
    again = objective(search.best_params)
    assert again == search.params2result[HyperTuning.params2str(search.best_params)]


def test_settings_of_files_count_too(objective, tmp_path):
    (tmp_path / "more.yaml").write_text("embedding_size: 4\n", encoding="utf-8")
    files = ["more.yaml"]
    search = HyperTuning(objective, params_dict={"choice": SEEDS}, fixed_config_file_list=files)
    search.run()
    expected = in_a_loop(lambda trial: objective({**trial, "embedding_size": 4}), SEEDS)
    assert search.params2result == expected


def test_results_are_written_and_drawn(objective, tmp_path):
    space = {"choice": SEEDS}
    search = HyperTuning(objective, params_dict=space, display_file=str(tmp_path / "search.html"))
    search.plot_hyper = lambda: plotted.append(search)
    plotted = []
    search.run()
    search.export_result("results.txt")
    text = (tmp_path / "results.txt").read_text(encoding="utf-8")
    assert plotted == [search]
    assert {"seed:1", "seed:2"} <= set(text.splitlines())


def test_without_the_patch_hyperopt_asks_for_a_generator(objective, monkeypatch):
    monkeypatch.setattr(
        hyper_tuning, "exhaustive_search", hyper_tuning.exhaustive_search.__wrapped__
    )
    search = HyperTuning(objective, params_dict={"choice": SEEDS})
    with pytest.raises(AttributeError, match="RandomState' object has no attribute 'integers'"):
        search.run()


def test_without_the_patch_a_choice_of_lists_fails(objective, monkeypatch):
    monkeypatch.setattr(hyper_tuning, "_parameters", hyper_tuning._parameters.__wrapped__)
    with pytest.raises(AttributeError, match="'Apply' object has no attribute 'obj'"):
        HyperTuning(objective, params_dict={"choice": LISTS})
    monkeypatch.setattr(HyperTuning, "trial", HyperTuning.trial.__wrapped__)
    search = HyperTuning(
        lambda trial, files: objective({"model": "NeuMF", **trial}),
        params_dict={"choice": LISTS}, algo="random", max_evals=1,
    )  # fmt: skip
    with pytest.raises(TypeError, match=r"can only concatenate list \(not \"tuple\"\) to list"):
        search.run()
