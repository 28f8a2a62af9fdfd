"""A run whose network has an instance head, from the dataset's pixels of each object to panoptic quality."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from training.street_folder import TINY_MODEL

from sembox_ros.inference.predictor import Predictor
from sembox_ros.models.checkpoint import load_checkpoint
from sembox_ros.training.config import TrainConfig
from sembox_ros.training.loader import learns_instances, load_datasets
from sembox_ros.training.trainer import Trainer

TINY_SOLO = {
    **TINY_MODEL, 'encoder': 'efficientnet-b0', 'instance_channels': 8, 'instance_head_channels': 16,
    'instance_head_depth': 1, 'instance_grids': [8, 6, 4, 2, 1],
}  # fmt: skip
ConfigFactory = Callable[..., TrainConfig]


@pytest.mark.parametrize('box_head', [False, True])
def test_masks_are_learnt_graded_and_kept(tmp_path: Path, tiny_config: ConfigFactory, box_head: bool):
    options = {**TINY_SOLO, 'box_head': box_head}
    config = tiny_config(tmp_path / 'run', model='sembox_b1_solo', model_options=options, best_by='miou+pq', epochs=1)
    assert Trainer(config).run()
    history = [json.loads(line) for line in (config.folder / 'history.jsonl').read_text().splitlines()]
    terms = {name for name in history[0] if name.startswith('loss_')}
    boxes = {'loss_box_cls', 'loss_box_reg'} if box_head else set()
    assert terms == {'loss_semantic', 'loss_region', 'loss_category', 'loss_mask'} | boxes
    assert all(0 < history[0][name] < 10 for name in terms)
    metrics = json.loads((config.folder / 'metrics.json').read_text())
    assert 0 <= metrics['last']['panoptic']['pq'] <= 1
    assert 'PQ of things' in (config.folder / 'summary.html').read_text()
    checkpoint = load_checkpoint(config.folder / 'last.safetensors')
    assert (checkpoint.config.instance_channels, checkpoint.config.box_head) == (8, box_head)
    image = load_datasets(config)[1][0].image
    [scene] = Predictor(checkpoint, engine='torch').predict([image], outputs={'panoptic'})
    assert scene.panoptic is not None
    assert scene.panoptic.shape == image.shape[:2]


def test_pixels_of_objects_are_read_only_where_they_are_of_use(tmp_path: Path, tiny_config: ConfigFactory):
    boxes, masks, frozen = (
        tiny_config(tmp_path, **changes)
        for changes in (
            {}, {'model': 'sembox_b1_solo'}, {'model': 'sembox_b1_solo', 'freeze': ['instance_head']},
        )
    )  # fmt: skip
    assert [learns_instances(config) for config in (boxes, masks, frozen)] == [False, True, False]
    for config, learnt in ((boxes, False), (masks, True)):
        train, val = load_datasets(config)
        assert (train[0].instances is not None) == learnt
        assert val[0].instances is not None  # panoptic quality is graded in any case
