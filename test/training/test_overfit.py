"""The whole chain can learn: eight images by heart, masks and boxes together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from training.street_folder import write_streets

from sembox_ros.config import from_mapping
from sembox_ros.training.config import TrainConfig
from sembox_ros.training.trainer import Trainer

EPOCHS = 450  # of two steps


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_eight_images_are_learnt_by_heart(tmp_path: Path):
    # Things below 8 px are marked as groups, which neither training nor grading asks for.
    streets = write_streets(tmp_path / 'streets', {'train': range(8), 'val': range(8)}, min_side=8.0)
    settings = {
        'name': 'overfit', 'out': str(tmp_path / 'run'), 'model': 'sembox_b0', 'model_options': {'anchor_scale': 2.0},
        'epochs': EPOCHS, 'val_every': 150, 'batch_size': 4, 'device': 'cpu', 'precision': 'fp32',
        'stochastic_depth': 0.0, 'threads': 1,
        'input': {'size_hw': [128, 256]}, 'data': {'root': str(streets), 'workers': 0},
        'augment': {
            'scale_min': 1.0, 'scale_max': 1.0, 'flip_probability': 0.0, 'brightness': 0.0, 'contrast': 0.0,
            'saturation': 0.0,
        },
        'loss': {'region': 2.0, 'region_kind': 'jaccard'},
        'optimizer': {'lr': 3e-3, 'warmup_steps': 20, 'weight_decay': 0.0, 'ema_decay': 0.9},
    }  # fmt: skip
    trainer = Trainer(from_mapping(TrainConfig, settings))
    assert trainer.run()
    metrics = json.loads((tmp_path / 'run' / 'metrics.json').read_text())
    last = metrics['last']
    assert (metrics['steps'], metrics['images_train']) == (2 * EPOCHS, 8)
    # What is left are poles and bicycles of one or two pixels' width.
    assert last['semantic']['miou'] > 0.9
    assert last['boxes']['ap50'] > 0.9
