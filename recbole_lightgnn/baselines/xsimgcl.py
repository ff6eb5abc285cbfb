"""XSimGCL: SimGCL with a single, noisy propagation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_lightgnn.baselines.simgcl import SimGCL
from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.objective import Tables
from recbole_lightgnn.nn.propagation import noisy_layers


class XSimGCL(SimGCL):
    r"""SimGCL with one noisy propagation for both BPR and the contrastive loss.

    .. math:: \mathcal L = \mathcal L_{bpr}(\bar E) + \lambda\,\mathcal L_{nce}(\bar E, E_{l^*})
              + \lambda_4\|\Theta\|^2,\qquad \bar E = \frac1L\sum_{l=1}^L E_l

    :math:`E_l` are LightGCN's layers with noise (`noisy_layers`). The setting ``contrast_layer`` is
    :math:`l^*`. The ranking uses the mean of the layers without noise.

    Source: Yu et al., "XSimGCL: Towards Extremely Simple Graph Contrastive Learning for
    Recommendation", TKDE'23.
    """

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> None:
        """Raise InputError if ``contrast_layer`` is larger than ``n_layers``."""
        layer, last = settings["contrast_layer"], settings["n_layers"]
        if layer > last:
            raise InputError(
                f"contrast_layer must be one of the n_layers ({last}), got {layer}: lower it, or "
                "raise n_layers"
            )

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.contrast_layer = settings.integer("contrast_layer")

    def views(self) -> tuple[Tables, Tables, Tables]:
        """Compute final embeddings for BPR, and two views: final embeddings and the layer l*."""
        layers = noisy_layers(
            self.observed, *self.initial(), n_layers=self.n_layers, noise=self.noise
        )
        user, item = (sum(sides) / self.n_layers for sides in zip(*layers, strict=True))
        return (user, item), (user, item), layers[self.contrast_layer - 1]
