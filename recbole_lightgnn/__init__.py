"""LightGNN (WSDM 2025) as a plugin of RecBole.

Importing the package loads nothing but the standard library. It only arranges that RecBole, when
it is imported, runs on current libraries and knows our models, trainers and settings.
"""

from recbole_lightgnn import registry

__version__ = "0.1.0"


def _ready_recbole() -> None:
    # Runs inside the first `import recbole`, which may come from the top of any module of ours.
    # So the modules named here import RecBole only within their functions.
    from recbole_lightgnn import compat, config
    from recbole_lightgnn.trainer import masking

    compat.apply()
    config.extend_recbole()
    masking.extend_recbole()
    registry.offer_trainers()


registry.install(_ready_recbole)
