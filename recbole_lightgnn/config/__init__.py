"""Read, merge and check settings, extend RecBole's ``Config``, and compare settings of runs."""
