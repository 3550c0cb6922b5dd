"""The common harness: command line, pairs, networks, data, training, checkpoints and tracking."""
