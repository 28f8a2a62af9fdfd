"""What losses and postprocessing read of a network, which they do not know: `models.sembox.NetworkOutput` has it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class RawOutput(Protocol):
    """The raw tensors of a batch; None where the network has no such head. Of any float dtype."""

    @property
    def class_logits(self) -> Tensor | None:
        """(B, A, K) before the sigmoid."""

    @property
    def box_regression(self) -> Tensor | None:
        """(B, A, 4) dx, dy, dw, dh against the anchors."""

    @property
    def semantic_logits(self) -> Tensor | None:
        """(B, K, h, w) before the softmax."""

    @property
    def category_logits(self) -> Tensor | None:
        """(B, G, K) before the sigmoid, a row for each cell."""

    @property
    def mask_kernels(self) -> Tensor | None:
        """(B, G, E + 5), see `grids.evaluate_kernels`."""

    @property
    def mask_features(self) -> Tensor | None:
        """(B, E, h, w) at a quarter of the input."""

    @property
    def log_depth(self) -> Tensor | None:
        """(B, 1, h, w) natural logarithm of metres."""

    @property
    def motion_logits(self) -> Tensor | None:
        """(B, 1, h, w) before the sigmoid."""
