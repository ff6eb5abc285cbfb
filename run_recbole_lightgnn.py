"""Run a model, RecBole's or ours, with RecBole's flags: --model, --dataset, --key=value."""

import sys

from recbole_lightgnn.cli.main import main

sys.exit(main(["run", *sys.argv[1:]]))
