"""What is kept of a batch whose loss is not finite, so that somebody can look at it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file

from sembox_ros.data.transforms import Batch


def save_batch(batch: Batch, path: Path, *, step: int, losses: Mapping[str, float]) -> None:
    """Write all tensors of a batch as safetensors, and names, step and losses as its metadata."""
    maps = {name: getattr(batch, name) for name in ('images', 'semantic', 'depth', 'motion')}
    tensors = {name: tensor for name, tensor in maps.items() if tensor is not None}
    for index, parts in enumerate(zip(batch.boxes_xyxy, batch.class_ids, batch.is_crowd, strict=True)):
        tensors |= {f'{n}/{index}': t for n, t in zip(('boxes_xyxy', 'class_ids', 'is_crowd'), parts, strict=True)}
    metadata = {'step': str(step), 'image_ids': json.dumps(batch.image_ids)}
    metadata |= {name: str(value) for name, value in losses.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: t.detach().cpu().contiguous() for k, t in tensors.items()}, path, metadata=metadata)
