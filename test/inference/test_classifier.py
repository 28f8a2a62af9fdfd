from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from random_networks import calibrate_norms
from torchvision.models import EfficientNet_B0_Weights, efficientnet_b0

from sembox_ros.errors import CheckpointError, ConfigError, InputError
from sembox_ros.inference.classifier import Classifier
from sembox_ros.models.checkpoint import Checkpoint
from sembox_ros.models.importers import import_state


@pytest.fixture(scope='module')
def original() -> torch.nn.Module:
    torch.manual_seed(3)
    network = efficientnet_b0(weights=None)
    calibrate_norms(network, seed=3)
    return network.eval()


@pytest.fixture(scope='module')
def checkpoint(original: torch.nn.Module) -> Checkpoint:
    return import_state(original.state_dict(), 'torchvision:efficientnet_b0_classifier')


def photo(seed: int, height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def test_answers_are_torchvisions_own(original: torch.nn.Module, checkpoint: Checkpoint):
    """Preset, network and names of its published weights, with other numbers in them."""
    images = [photo(0, 301, 402), photo(1, 500, 260), photo(2, 64, 64)]
    weights = EfficientNet_B0_Weights.IMAGENET1K_V1
    preset = weights.transforms()
    answers = Classifier(checkpoint, device='cpu').classify(images, top=4)
    with torch.no_grad():
        expected = original(torch.stack([preset(Image.fromarray(image)) for image in images])).softmax(1)
    assert len({answer[0].class_id for answer in answers}) > 1  # it does look at the image
    for answer, probs in zip(answers, expected, strict=True):
        best = probs.topk(4)
        assert [category.class_id for category in answer] == best.indices.tolist()
        assert [category.probability for category in answer] == pytest.approx(best.values.tolist(), abs=1e-5)
        assert [category.name for category in answer] == [weights.meta['categories'][i] for i in best.indices]


def test_probabilities_of_all_categories_add_up_to_one(checkpoint: Checkpoint):
    [answer] = Classifier(checkpoint, device='cpu').classify([photo(0, 40, 50)], top=10_000)
    assert len(answer) == 1000
    assert sum(category.probability for category in answer) == pytest.approx(1, abs=1e-4)
    assert [c.probability for c in answer] == sorted((c.probability for c in answer), reverse=True)


def test_channel_order_is_the_checkpoints(checkpoint: Checkpoint):
    image = photo(4, 60, 70)
    swapped = dataclasses.replace(checkpoint, input=dataclasses.replace(checkpoint.input, channel_order='bgr'))
    straight = Classifier(checkpoint, device='cpu').classify([image])
    assert Classifier(swapped, device='cpu').classify([image]) != straight
    assert Classifier(swapped, device='cpu').classify([image[..., ::-1]]) == straight


@pytest.mark.parametrize(
    ('image', 'reason'),
    [
        (np.zeros((2, 101, 3), np.uint8), 'at most 50 to 1, got 2x101'),
        (np.zeros((20, 20), np.uint8), 'expected .H, W, 3. uint8'),
        (np.zeros((0, 20, 3), np.uint8), 'at least one pixel'),
    ],
)
def test_what_is_no_image_is_refused(checkpoint: Checkpoint, image: np.ndarray, reason: str):
    with pytest.raises(InputError, match=reason):
        Classifier(checkpoint, device='cpu').classify([image])


def test_a_network_that_sees_scenes_is_refused(tiny_checkpoint_path: Path):
    with pytest.raises(CheckpointError, match='got sembox_b0, which sees scenes; use predict'):
        Classifier.from_checkpoint(tiny_checkpoint_path, device='cpu')
    with pytest.raises(ConfigError, match='device'):
        Classifier.from_checkpoint(tiny_checkpoint_path, device='tpu')
