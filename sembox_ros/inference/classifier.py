"""What whole images show: the classifiers of `models.classifier` on photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from sembox_ros.errors import CheckpointError, InputError
from sembox_ros.inference.predictor import choose_device
from sembox_ros.inference.preprocess import check_image
from sembox_ros.models.checkpoint import Checkpoint, load_with_header
from sembox_ros.models.classifier import published_crop
from sembox_ros.models.folding import fold

MAX_ASPECT = 50  # scaled by its shorter side, a thin strip would need memory without end


@dataclass(frozen=True)
class Category:
    """One answer.

    Attributes:
        class_id: its number among the network's categories.
        name: what it is called.
        probability: 0..1; those of all categories add up to 1.
    """

    class_id: int
    name: str
    probability: float


class Classifier:
    """Names images with a network that was trained for that.

    Args:
        checkpoint: with categories.
        device: auto, cpu, cuda or cuda:N.

    Attributes:
        checkpoint: what was given.
        device: where the network runs.

    Raises:
        CheckpointError: its network sees scenes and has no categories.
        ConfigError: the device is not to be had.
    """

    def __init__(self, checkpoint: Checkpoint, *, device: str = 'auto') -> None:
        config, fed = checkpoint.config, checkpoint.input
        if not config.image_classes:
            raise CheckpointError(
                f'checkpoint: expected a network that names whole images, got {config.name}, which sees scenes; '
                'use predict, or import-weights --from efficientnet-b0-classifier'
            )
        self.checkpoint = checkpoint
        self.device = choose_device(device)
        self._network = fold(checkpoint.model).to(self.device)
        shorter_side, side = published_crop(config.encoder)
        self._prepare = v2.Compose(
            [
                v2.Resize(shorter_side, interpolation=InterpolationMode.BICUBIC),
                v2.CenterCrop(side),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(fed.mean, fed.std),
            ]
        )

    @classmethod
    def from_checkpoint(cls, path: str | Path, *, device: str = 'auto') -> Classifier:
        """Load a checkpoint and make it ready.

        Raises:
            CheckpointError: the file is missing or unusable, or its network has no categories.
            ConfigError: the device is not to be had.
        """
        choose_device(device)  # fail before the file is read
        return cls(load_with_header(path)[0], device=device)

    @torch.inference_mode()
    def classify(self, images: Sequence[np.ndarray], *, top: int = 5) -> list[list[Category]]:
        """The likeliest categories of each image, best first.

        Args:
            images: (H, W, 3) uint8 rgb each, sizes may differ; run as one batch.
            top: how many, at most as many as the network has.

        Raises:
            InputError: an image is not such an array, or a strip longer than `MAX_ASPECT` times its width.
        """
        batch = torch.stack([self._tensor(image) for image in images]).to(self.device)
        probs, ids = self._network(batch).float().softmax(dim=1).topk(min(top, self.checkpoint.config.image_classes))
        names = self.checkpoint.categories
        return [
            [Category(class_id, names[class_id], prob) for class_id, prob in zip(row_ids, row_probs, strict=True)]
            for row_ids, row_probs in zip(ids.tolist(), probs.tolist(), strict=True)
        ]

    def _tensor(self, image: np.ndarray) -> torch.Tensor:
        """The (3, side, side) float32 tensor that the network sees of an image."""
        check_image(image)
        height, width = image.shape[:2]
        if max(height, width) > MAX_ASPECT * min(height, width):
            raise InputError(f'image: expected sides of at most {MAX_ASPECT} to 1, got {height}x{width}; cut it')
        if self.checkpoint.input.channel_order == 'bgr':
            image = image[..., ::-1]
        tensor: torch.Tensor = self._prepare(Image.fromarray(np.ascontiguousarray(image)))
        return tensor
