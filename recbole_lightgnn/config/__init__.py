"""Settings: yaml files, RecBole's ``Config``, checks, and differences between runs."""
