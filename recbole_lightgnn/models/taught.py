"""Base class of models that learn from a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.base import GraphRecommender
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.models.scoring_tables import final_tables


class TaughtRecommender(GraphRecommender):
    """Recommender that learns from a trained model, the teacher.

    The trainer trains or loads the teacher by the settings in ``properties/shared/teacher.yaml``.
    Then it calls :meth:`distill_from` and :meth:`begin_from`. Without a teacher, the loss has no
    terms that compare with a teacher.

    Attributes:
        learns_from_teacher: class attribute; tells the checks of settings that there is a teacher.
        needs_teacher_tables: class attribute; if true, a teacher without final embeddings is
            refused before its training.
        teacher: the teacher, or ``None`` before :meth:`distill_from`.
    """

    learns_from_teacher = True
    needs_teacher_tables = False

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.settings = Settings(config)
        self.teacher: FrozenTeacher | None = None

    def distill_from(self, teacher: FrozenTeacher, *, prefix: str = "") -> None:
        """Set the teacher; raise InputError if this model cannot learn from it.

        Args:
            teacher: the frozen teacher.
            prefix: prefix of this model's settings in error messages.
        """
        self.teacher = teacher

    @staticmethod
    def check_teacher_width(settings: Mapping[str, Any], width: int) -> None:
        """Check settings that depend on the width of the teacher; by default, accept every width.

        Args:
            settings: settings of this model.
            width: width of the teacher's final embeddings.

        Raises:
            InputError: if a setting does not fit the width.
        """

    def check_untrained_teacher(self, teacher: Any) -> None:
        """Check a teacher before it is trained; called if ``needs_teacher_tables`` is true.

        Args:
            teacher: the untrained model, in evaluation mode.

        Raises:
            InputError: as from :meth:`teacher_tables`.
        """
        self._checked(final_tables(teacher), teacher)

    def teacher_tables(self, teacher: FrozenTeacher) -> tuple[Tensor, Tensor]:
        """Return the teacher's final embeddings. Shapes: (users, width), (items, width)

        Args:
            teacher: the frozen teacher.

        Raises:
            InputError: if the teacher has no final embeddings, or their width does not fit this
                model's settings.
        """
        known = teacher.user is not None and teacher.item is not None
        return self._checked((teacher.user, teacher.item) if known else None, teacher.model)

    def _checked(self, tables: Any, teacher: Any) -> tuple[Tensor, Tensor]:
        if tables is None:
            raise self.refusal(type(teacher).__name__)
        user, item = tables
        self.check_teacher_width(self.settings, user.shape[1])
        return user, item

    @classmethod
    def refusal(cls, teacher: str) -> InputError:
        """Build the error for a teacher without final embeddings.

        Args:
            teacher: name of the teacher's model.
        """
        return InputError(
            f"{cls.__name__} needs the final embeddings of its teacher, and {teacher} gives only "
            "scores: choose a graph model or matrix factorization as teacher"
        )

    def begin_from(self, teacher: FrozenTeacher) -> None:
        """Initialize this model from the teacher; by default, do nothing."""
