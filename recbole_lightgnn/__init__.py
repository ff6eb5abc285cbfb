"""LightGNN (WSDM 2025) as a plugin of RecBole.

Importing the package loads only the standard library. When RecBole is imported later, it runs on
current libraries and knows this package's models, trainers and settings.
"""

import os

from recbole_lightgnn import registry

__version__ = "0.1.0"

# torch's threads wait for work in a loop and so keep the threads of our row kernel (ops/rows.py)
# off their cores: on two cores a step of 27 ms takes 38 ms. This setting limits the wait to
# about ten microseconds. It has no effect if torch was imported before.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# By name, because `integration` imports heavy libraries.
registry.install("recbole_lightgnn.integration:extend_recbole")
