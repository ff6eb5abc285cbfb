"""Train models with RecBole alone, in a process that does not import this package.

    python stock_recbole.py SETTINGS.json

The file maps each model to its settings. Each model is trained on the dataset ``world`` and leaves
``MODEL.pth`` and ``MODEL.json``, its test metrics, in the working folder. `mend` first repairs
three faults that keep RecBole 1.2 from starting on current libraries; none concerns checkpoints.
"""

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch


def main(settings: dict) -> None:
    """Train each model."""
    mend()
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    for name, given in settings.items():
        config = Config(model=name, dataset="world", config_dict=given)
        init_seed(config["seed"], config["reproducibility"])
        train, valid, test = data_preparation(config, create_dataset(config))
        model = get_model(name)(config, train._dataset)
        torch.autograd.set_detect_anomaly(False)  # RecBole's SINE turns it on, and it is slow
        trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
        trainer.saved_model_file = f"{name}.pth"
        trainer.fit(train, valid, verbose=False)  # ends with the weights that it saves
        result = trainer.evaluate(test, load_best_model=False)
        Path(f"{name}.json").write_text(json.dumps(result), encoding="utf-8")
    assert "recbole_lightgnn" not in sys.modules


def mend() -> None:
    """Replace ray and the names that numpy lacks; fill missing values on pandas 3."""
    sys.modules["ray"] = sys.modules["ray.tune"] = ModuleType("ray")
    sys.modules["ray"].tune = None
    for name, value in {"float_": np.float64, "complex_": np.complex128, "object_": np.object_,
                        "str_": np.str_, "unicode_": np.str_}.items():  # fmt: skip
        if not hasattr(np, name):
            setattr(np, name, value)
    from recbole.data.dataset import Dataset
    from recbole.utils import FeatureType

    def fill_nan(self) -> None:
        for features in (getattr(self, name) for name in self.feat_name_list):
            for field in features:
                if self.field2type[field] in (FeatureType.TOKEN, FeatureType.FLOAT):
                    features[field] = features[field].fillna(0)

    Dataset._fill_nan = fill_nan


if __name__ == "__main__":
    main(json.loads(Path(sys.argv.pop(1)).read_text(encoding="utf-8")))
