"""Datasets, the synthetic street and the transforms that feed training."""
