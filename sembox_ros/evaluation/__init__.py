"""Metrics: update, merge, compute. Plain numpy and pycocotools, never torch."""
