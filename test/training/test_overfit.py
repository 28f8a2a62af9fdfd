"""The whole chain can learn: eight images by heart, masks and boxes together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from training.street_folder import write_geometry_streets, write_streets

from sembox_ros.config import find_shared, from_mapping
from sembox_ros.panoptic import MIN_STUFF_SHARE
from sembox_ros.training.config import TrainConfig
from sembox_ros.training.trainer import Trainer

PLAIN = {
    'scale_min': 1.0, 'scale_max': 1.0, 'flip_probability': 0.0, 'brightness': 0.0, 'contrast': 0.0, 'saturation': 0.0,
}  # fmt: skip


def eight_streets(root: Path, *, min_stuff: float = 0.0) -> Path:
    """Things below 8 px are marked as groups, which neither training nor grading asks for."""
    return write_streets(root, {'train': range(8), 'val': range(8)}, min_side=8.0, min_stuff=min_stuff)


def learn_by_heart(tmp_path: Path, streets: Path, epochs: int, **settings: Any) -> dict[str, Any]:
    """The scores of a network on the eight images that it was trained with, and nothing else."""
    always = {
        'name': 'overfit', 'out': str(tmp_path / 'run'), 'epochs': epochs, 'batch_size': 4, 'device': 'cpu',
        'precision': 'fp32', 'stochastic_depth': 0.0, 'data': {'root': str(streets), 'workers': 0}, 'augment': PLAIN,
        'loss': {'region': 2.0, 'region_kind': 'jaccard'},
    }  # fmt: skip
    trainer = Trainer(from_mapping(TrainConfig, always | settings))
    assert trainer.run()
    metrics = json.loads((tmp_path / 'run' / 'metrics.json').read_text())
    assert (metrics['steps'], metrics['images_train']) == (2 * epochs, 8)
    last: dict[str, Any] = metrics['last']
    return last


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_eight_images_are_learnt_by_heart(tmp_path: Path):
    last = learn_by_heart(
        tmp_path, eight_streets(tmp_path / 'streets'), 450, model='sembox_b0', model_options={'anchor_scale': 2.0},
        val_every=150, threads=1, input={'size_hw': [128, 256]},
        optimizer={'lr': 3e-3, 'warmup_steps': 20, 'weight_decay': 0.0, 'ema_decay': 0.9},
    )  # fmt: skip
    # What is left are poles and bicycles of one or two pixels' width.
    assert last['semantic']['miou'] > 0.9
    assert last['boxes']['ap50'] > 0.9


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_eight_panoptic_scenes_are_learnt_by_heart(tmp_path: Path):
    # Twice as large as the images: masks are made at a quarter of the canvas, and a rider of 8 px would have 2 of it.
    # From the bundled weights, because from random ones that takes hours on a CPU. Stuff so scarce that a panoptic
    # scene leaves it out by rule cannot be learnt.
    bundled = find_shared('weights/sembox_b1_solo_streets.safetensors')
    streets = eight_streets(tmp_path / 'streets', min_stuff=MIN_STUFF_SHARE)
    last = learn_by_heart(
        tmp_path, streets, 110, model='sembox_b1_solo', start_from=str(bundled), val_every=55,
        input={'size_hw': [256, 512]},
        model_options={'instance_grids': [32, 24, 16, 10, 6], 'instance_grid_aspect': 2.0},
        optimizer={'lr': 1.5e-3, 'warmup_steps': 10, 'weight_decay': 0.0, 'ema_decay': 0.9},
    )  # fmt: skip
    assert last['panoptic']['pq'] > 0.85


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_depth_and_motion_of_eight_images_are_learnt_by_heart(tmp_path: Path):
    streets = write_geometry_streets(tmp_path / 'streets', train=8, val=0)
    last = learn_by_heart(
        tmp_path, streets, 75, model='mobilenetv2_s16_multitask', val_every=75,
        model_options={'decoder_channels': 64}, input={'size_hw': [128, 256]}, best_by='miou+delta1+motion_miou',
        data={'root': str(streets), 'workers': 0, 'val': {'split': 'train'}},
        optimizer={'lr': 3e-3, 'warmup_steps': 20, 'weight_decay': 0.0, 'ema_decay': 0.9},
    )  # fmt: skip
    # Maps end at stride 4, so edges of depth are soft.
    assert last['depth']['delta1'] > 0.8
    assert last['depth']['abs_rel'] < 0.15
    assert last['motion']['motion_miou'] > 0.85
