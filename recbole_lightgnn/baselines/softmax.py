"""LightGCN and matrix factorization trained by a softmax."""

from recbole_lightgnn.models.teacher import LightGNNTeacher


class SoftmaxLightGCN(LightGNNTeacher):
    r"""LightGCN trained by a softmax instead of BPR.

    .. math:: -\log\frac{\exp(\hat y_{ui}/\tau)}{\sum_c\exp(\hat y_{uc}/\tau)},\qquad
              \hat y_{ui} = \bar e_u\cdot\bar e_i

    The softmax is over the items of the batch, corrected for popularity (Yi et al., RecSys'19).
    With ``batch_by: user``, it is over all items: the multinomial likelihood (Liang et al.,
    WWW'18). The model is LightGNN's teacher, with settings tuned for the softmax.

    Source of the model: He et al., "LightGCN: Simplifying and Powering Graph Convolution Network
    for Recommendation", SIGIR'20.
    """


class SoftmaxMF(SoftmaxLightGCN):
    """Matrix factorization trained by a softmax: `SoftmaxLightGCN` with ``n_layers: 0``."""
