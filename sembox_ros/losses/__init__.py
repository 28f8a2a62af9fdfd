"""What training minimizes. Works on plain tensors: knows no model and no data set."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from sembox_ros.errors import ConfigError, InputError
from sembox_ros.losses.box import BoxLoss
from sembox_ros.losses.depth import DepthLoss
from sembox_ros.losses.instance import InstanceLoss
from sembox_ros.losses.motion import MotionLoss
from sembox_ros.losses.semantic import SemanticLoss
from sembox_ros.ops.grids import Grids
from sembox_ros.ops.outputs import RawOutput

LOSSES: dict[str, Callable[..., Any]] = {
    'box': BoxLoss,
    'semantic': SemanticLoss,
    'instance': InstanceLoss,
    'depth': DepthLoss,
    'motion': MotionLoss,
}

TERMS = (
    'loss_box_cls', 'loss_box_reg', 'loss_semantic', 'loss_region', 'loss_category', 'loss_mask', 'loss_depth',
    'loss_motion',
)  # fmt: skip


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


class SceneLoss:
    """The losses of all heads, or decoders, and their weighted sum.

    Args:
        box: loss of the box head, or None if it is not trained or not there.
        semantic: loss of the semantic head, or None.
        instance: loss of the instance head, or None.
        depth: loss of the depth decoder, or None.
        motion: loss of the motion decoder, or None.
        weights: term name (one of `TERMS`) -> factor; the others count once. Weights of a head that is not trained
            do nothing.

    Raises:
        ConfigError: no loss is given, or a weight has an unknown name.
    """

    def __init__(
        self,
        *,
        box: BoxLoss | None,
        semantic: SemanticLoss | None,
        instance: InstanceLoss | None = None,
        depth: DepthLoss | None = None,
        motion: MotionLoss | None = None,
        weights: Mapping[str, float],
    ) -> None:
        if all(loss is None for loss in (box, semantic, instance, depth, motion)):
            raise ConfigError('box, semantic, instance, depth, motion: expected at least one loss, got none')
        _check_weights(weights, TERMS)
        self.box, self.semantic, self.instance, self.weights = box, semantic, instance, dict(weights)
        self.depth, self.motion = depth, motion

    @property
    def reads_maps(self) -> bool:
        """Whether a map of the network is compared with labels of every pixel."""
        return any(loss is not None for loss in (self.semantic, self.depth, self.motion))

    def __call__(
        self,
        output: RawOutput,
        *,
        anchors_xyxy: Tensor | None,
        semantic: Tensor | None,
        boxes_xyxy: Sequence[Tensor] | None,
        class_ids: Sequence[Tensor] | None,
        is_crowd: Sequence[Tensor] | None,
        grids: Grids | None = None,
        instances: Tensor | None = None,
        depth: Tensor | None = None,
        motion: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The terms of one batch and their weighted sum; what an absent loss would need may be None.

        Args:
            output: of the network, as `models.sembox.NetworkOutput`; any float dtype.
            anchors_xyxy: (A, 4) float32 in pixels of the network's input.
            semantic: (B, H, W) int64, 255 = ignored.
            boxes_xyxy: per image (N, 4) float32 in pixels of the network's input.
            class_ids: per image (N,) int64.
            is_crowd: per image (N,) bool.
            grids: of the network's input.
            instances: (B, H, W) int32, k on the pixels of row k - 1 of the image's boxes.
            depth: (B, H, W) float32 metres, 0 = unknown.
            motion: (B, H, W) int64, 1 = moves, 0 = does not, 255 = ignored.

        Returns:
            Term name -> float32 scalar, and `loss`.

        Raises:
            InputError: something that a loss needs is None or does not fit.
        """
        losses: dict[str, Tensor] = {}
        objects: dict[str, Any] = {'boxes_xyxy': boxes_xyxy, 'class_ids': class_ids, 'is_crowd': is_crowd}
        if self.box is not None:
            given = {'class_logits': output.class_logits, 'box_regression': output.box_regression}
            losses |= self.box(**_require('box', {**given, 'anchors_xyxy': anchors_xyxy, **objects}))
        if self.semantic is not None:
            losses |= self.semantic(
                **_require('semantic', {'semantic_logits': output.semantic_logits, 'semantic': semantic})
            )
        if self.instance is not None:
            given = {name: getattr(output, name) for name in ('category_logits', 'mask_kernels', 'mask_features')}
            needed: dict[str, Any] = {**given, 'grids': grids, 'instances': instances, **objects}
            losses |= self.instance(**_require('instance', needed))
        if self.depth is not None:
            losses |= self.depth(**_require('depth', {'log_depth': output.log_depth, 'depth': depth}))
        if self.motion is not None:
            losses |= self.motion(**_require('motion', {'motion_logits': output.motion_logits, 'motion': motion}))
        return combine(losses, {name: weight for name, weight in self.weights.items() if name in losses})


def _require(loss: str, parts: Mapping[str, Any]) -> dict[str, Any]:
    """The parts as they are, unless one is None."""
    absent = [name for name, part in parts.items() if part is None]
    if absent:
        raise InputError(f'{", ".join(absent)}: expected a value, got None; without it train with {loss}=None')
    return dict(parts)


def _check_weights(weights: Mapping[str, float], known: Sequence[str]) -> None:
    unknown = sorted(set(weights) - set(known))
    if unknown:
        raise ConfigError(f'weights: expected names among {", ".join(known)}, got {", ".join(unknown)}')
