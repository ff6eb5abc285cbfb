"""Unmodified RecBole trains, loads and recommends with our model, on its own dataset."""

import pytest
import torch
from recbole.quick_start import load_data_and_model, run_recbole
from recbole.utils import get_trainer
from recbole.utils.case_study import full_sort_topk

EVALUATION = {
    "show_progress": False,
    "metrics": ["Recall", "NDCG"],
    "topk": [5, 20],
    "valid_metric": "NDCG@20",
}
# A few dozen steps for each stage suffice to be far better than popularity.
SHORT = EVALUATION | {
    "embedding_size": 16,
    "n_pruning_runs": 1,
    "epochs": 1,
    "train_batch_size": 8192,
    "teacher_settings": {"embedding_size": 16, "epochs": 2, "learning_rate": 0.01},
    "intermediate_settings": {"embedding_size": 16, "epochs": 1, "augmentation_cap": 4},
}


@pytest.mark.slow
def test_run_load_and_recommend_through_recboles_own_api(tmp_path):
    result = run_recbole(model="LightGNN", dataset="ml-100k", config_dict=SHORT)

    (path,) = (tmp_path / "saved").glob("LightGNN-ml-100k-*/student-01.safetensors")
    config, model, dataset, _, valid, test = load_data_and_model(model_file=str(path))
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    assert trainer.evaluate(valid, load_best_model=False) == result["best_valid_result"]
    assert trainer.evaluate(test, load_best_model=False) == result["test_result"]
    popular = run_recbole(model="Pop", dataset="ml-100k", config_dict=EVALUATION)["test_result"]
    assert result["test_result"]["ndcg@20"] > 2 * popular["ndcg@20"]

    names = dataset.field2id_token["user_id"][test.uid_list[:3].numpy()]
    users = dataset.token2id("user_id", names)
    scores, items = full_sort_topk(users, model, test, k=20, device=config["device"])
    user_table, item_table = model.final_embeddings()
    for row, user in enumerate(users):
        expected = item_table @ user_table[user]
        expected[[0, *test.uid2history_item[user].tolist()]] = -torch.inf
        assert torch.allclose(scores[row], expected[items[row]])
        assert torch.allclose(scores[row], expected.topk(20).values)
