"""Learning from a dataset: configuration, optimisation, the loop, its state on disk, and what it shows of itself."""
