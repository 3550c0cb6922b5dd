"""Studies: Optuna searches hyper-parameters on the validation part, in cohorts, on as many machines as join."""

import benchmarks  # noqa: F401, which sees to Ctrl-C while a command is imported
