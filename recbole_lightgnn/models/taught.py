"""Base class of models that learn from a teacher."""

from __future__ import annotations

from typing import Any

from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.models.base import GraphRecommender
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher


class TaughtRecommender(GraphRecommender):
    """Recommender that learns from a trained model, the teacher.

    The trainer trains or loads the teacher by the settings in ``properties/shared/teacher.yaml``.
    Then it calls :meth:`distill_from` and :meth:`begin_from`. Without a teacher, the loss has no
    terms that compare with one.

    Attributes:
        learns_from_teacher: class attribute; whether the teacher's settings are checked, too.
        teacher: the teacher, or ``None`` before :meth:`distill_from`.
    """

    learns_from_teacher = True

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.teacher: FrozenTeacher | None = None

    def distill_from(self, teacher: FrozenTeacher, *, prefix: str = "") -> None:
        """Set the teacher; raise InputError if this model cannot learn from it.

        Args:
            teacher: the frozen teacher.
            prefix: prefix of this model's settings in error messages.
        """
        self.teacher = teacher

    def begin_from(self, teacher: FrozenTeacher) -> None:
        """Initialize this model from the teacher; by default, do nothing."""
