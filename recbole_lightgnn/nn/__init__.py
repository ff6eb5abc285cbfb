"""Building blocks of the models: graph, propagation, prunable embeddings, pruning."""
