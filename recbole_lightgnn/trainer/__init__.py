"""Train and test models: stages of LightGNN, training loop, full ranking, resume."""
