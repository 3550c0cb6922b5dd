"""A grid of runs, methods × pairs × seeds: planned as data, trained here, in many processes or on a cluster."""
