"""LightGNN (WSDM 2025) as a plugin of RecBole.

Importing the package loads nothing but the standard library. It only arranges that RecBole, when
it is imported, runs on current libraries and knows our models, trainers and settings.
"""

import os

from recbole_lightgnn import registry

__version__ = "0.1.0"

# torch's threads wait for their next work in a loop, which keeps the threads of our row kernel
# (ops/rows.py) off their cores: on two cores a step of 27 ms takes 38. So they are told to wait
# no longer than some ten microseconds; without effect where torch was imported before.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


# By name, as `integration` imports heavy libraries.
registry.install("recbole_lightgnn.integration:extend_recbole")
