"""What training minimizes. Works on plain tensors: knows no model and no data set."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from sembox_ros.errors import ConfigError, InputError
from sembox_ros.losses.box import BoxLoss
from sembox_ros.losses.semantic import SemanticLoss

LOSSES: dict[str, Callable[..., Any]] = {'box': BoxLoss, 'semantic': SemanticLoss}

TERMS = ('loss_box_cls', 'loss_box_reg', 'loss_semantic', 'loss_region')


def create_loss(name: str, options: Mapping[str, Any]) -> Any:
    """The loss called `name` with these options; those of each are documented at its class.

    Raises:
        ConfigError: no such loss, no such option, or a value that does not fit.
    """
    if name not in LOSSES:
        raise ConfigError(f'loss: expected one of {", ".join(LOSSES)}, got {name!r}')
    parameters = inspect.signature(LOSSES[name]).parameters
    unknown = sorted(set(options) - set(parameters))
    if unknown:
        raise ConfigError(f'{name}: expected options among {", ".join(parameters)}, got {", ".join(unknown)}')
    required = {key for key, parameter in parameters.items() if parameter.default is parameter.empty}
    missing = sorted(required - set(options))
    if missing:
        raise ConfigError(f'{name}: expected a value for {", ".join(missing)}, got none')
    return LOSSES[name](**options)


def combine(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> dict[str, Tensor]:
    """All terms as they are, and their weighted sum as `loss`.

    Args:
        losses: term name -> scalar; at least one.
        weights: term name -> factor; a term that is not named counts once.

    Raises:
        ConfigError: a weight for a term that is not there.
    """
    _check_weights(weights, tuple(losses))
    weighted = [weights.get(name, 1.0) * loss for name, loss in losses.items()]
    return {**losses, 'loss': sum(weighted[1:], start=weighted[0])}


class SceneOutput(Protocol):
    """What the losses read of a network's output."""

    @property
    def class_logits(self) -> Tensor:
        """(B, A, K) before the sigmoid."""

    @property
    def box_regression(self) -> Tensor:
        """(B, A, 4) dx, dy, dw, dh against the anchors."""

    @property
    def semantic_logits(self) -> Tensor | None:
        """(B, K, H, W) before the softmax; None from a network that only detects."""


class SceneLoss:
    """The losses of both heads and their weighted sum.

    Args:
        box: loss of the box head, or None to train semantics only.
        semantic: loss of the semantic head, or None to train boxes only.
        weights: term name (one of `TERMS`) -> factor; the others count once. Weights of a head that is not trained
            do nothing.

    Raises:
        ConfigError: neither loss is given, or a weight has an unknown name.
    """

    def __init__(self, *, box: BoxLoss | None, semantic: SemanticLoss | None, weights: Mapping[str, float]) -> None:
        if box is None and semantic is None:
            raise ConfigError('box, semantic: expected at least one loss, got none')
        _check_weights(weights, TERMS)
        self.box, self.semantic, self.weights = box, semantic, dict(weights)

    def __call__(
        self,
        output: SceneOutput,
        *,
        anchors_xyxy: Tensor | None,
        semantic: Tensor | None,
        boxes_xyxy: Sequence[Tensor] | None,
        class_ids: Sequence[Tensor] | None,
        is_crowd: Sequence[Tensor] | None,
    ) -> dict[str, Tensor]:
        """The terms of one batch and their weighted sum; what an absent loss would need may be None.

        Args:
            output: of the network, as `models.sembox.NetworkOutput`; any float dtype.
            anchors_xyxy: (A, 4) float32 in pixels of the network's input.
            semantic: (B, H, W) int64, 255 = ignored.
            boxes_xyxy: per image (N, 4) float32 in pixels of the network's input.
            class_ids: per image (N,) int64.
            is_crowd: per image (N,) bool.

        Returns:
            Term name -> float32 scalar, and `loss`.

        Raises:
            InputError: something that a loss needs is None or does not fit.
        """
        losses: dict[str, Tensor] = {}
        if self.box is not None:
            if anchors_xyxy is None or boxes_xyxy is None or class_ids is None or is_crowd is None:
                raise InputError(
                    'anchors_xyxy, boxes_xyxy, class_ids, is_crowd: expected all four, got None; '
                    'a data set without boxes trains with box=None'
                )
            losses |= self.box(
                output.class_logits,
                output.box_regression,
                anchors_xyxy=anchors_xyxy,
                boxes_xyxy=boxes_xyxy,
                class_ids=class_ids,
                is_crowd=is_crowd,
            )
        if self.semantic is not None:
            if output.semantic_logits is None or semantic is None:
                absent = 'semantic' if semantic is None else 'output.semantic_logits'
                raise InputError(f'{absent}: expected a tensor, got None; boxes alone train with semantic=None')
            losses |= self.semantic(output.semantic_logits, semantic)
        return combine(losses, {name: weight for name, weight in self.weights.items() if name in losses})


def _check_weights(weights: Mapping[str, float], known: Sequence[str]) -> None:
    unknown = sorted(set(weights) - set(known))
    if unknown:
        raise ConfigError(f'weights: expected names among {", ".join(known)}, got {", ".join(unknown)}')
