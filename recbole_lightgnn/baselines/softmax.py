"""The plainest models with the softmax that our teacher is trained by."""

from recbole_lightgnn.models.teacher import LightGNNTeacher


class SoftmaxLightGCN(LightGNNTeacher):
    r"""LightGCN (He et al., SIGIR'20) with a softmax in place of BPR.

    .. math:: -\log\frac{\exp(\hat y_{ui}/\tau)}{\sum_c\exp(\hat y_{uc}/\tau)},\qquad
              \hat y_{ui} = \bar e_u\cdot\bar e_i

    over the items of a batch, corrected for popularity (Yi et al., RecSys'19), or with
    ``batch_by: user`` over all items, the multinomial likelihood (Liang et al., WWW'18). The
    teacher of LightGNN under a name, a yaml and, when tuned, settings of its own: what distillation
    and pruning are to be measured against.
    """


class SoftmaxMF(SoftmaxLightGCN):
    """Matrix factorization with that softmax: no layers, so that no graph is used."""
