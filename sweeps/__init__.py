"""Studies: Optuna searches hyper-parameters on the validation part, in cohorts, on as many machines as join."""
