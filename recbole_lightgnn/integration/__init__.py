"""Everything that changes RecBole itself."""


def extend_recbole() -> None:
    """Let RecBole run on current libraries and know our models, trainers and settings.

    Runs inside the first ``import recbole``, which may come from the top of any module of ours. So
    the modules named here import RecBole only within their functions.
    """
    from recbole_lightgnn import registry
    from recbole_lightgnn.config import recbole_config
    from recbole_lightgnn.integration import compat, eval_mask

    compat.apply()
    recbole_config.extend_recbole()
    eval_mask.extend_recbole()
    registry.offer_trainers()
