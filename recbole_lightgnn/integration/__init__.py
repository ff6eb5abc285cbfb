"""Changes to RecBole itself: patches, reading of files, masks in evaluation, faster models."""


def extend_recbole() -> None:
    """Let RecBole run on current libraries, and find our models, trainers and settings.

    This function is called during the first ``import recbole``, which may be at the top of any of
    our modules. So the modules imported here must import RecBole only within their functions.
    """
    from recbole_lightgnn import registry
    from recbole_lightgnn.config import recbole_config
    from recbole_lightgnn.integration import (
        catalog_metrics,
        compat,
        eval_mask,
        left_out,
        popularity,
        reading,
        saved_data,
        time_order,
    )

    compat.apply()
    recbole_config.extend_recbole()
    reading.extend_recbole()
    left_out.extend_recbole()
    eval_mask.extend_recbole()
    catalog_metrics.extend_recbole()
    popularity.extend_recbole()
    time_order.extend_recbole()
    saved_data.extend_recbole()
    registry.offer_trainers()
