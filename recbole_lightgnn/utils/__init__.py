"""General helpers without PyTorch or RecBole: files, messages, memory, compiled loops."""
