"""LightGNN (WSDM 2025) as a plugin of RecBole.

Importing the package loads nothing but the standard library. It only arranges that RecBole, when
it is imported, runs on current libraries and knows our models, trainers and settings.
"""

from recbole_lightgnn import registry

__version__ = "0.1.0"

registry.install()
