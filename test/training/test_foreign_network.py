"""Networks that are not in the zoo and label pixels only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cityscapes_sample import write_cityscapes
from torch import Tensor, nn

from sembox_ros.config import InputConfig, ModelConfig
from sembox_ros.labels import SceneLabels
from sembox_ros.models.profile import profile_network
from sembox_ros.models.sembox import NetworkOutput
from sembox_ros.training.config import DataConfig, LossConfig, OptimizerConfig, TrainConfig
from sembox_ros.training.trainer import BEST, LAST, METRICS, RESUME, Trainer


class EveryPixelAlone(nn.Module):
    """On noise it can learn nothing but which class is most common."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classify = nn.Conv2d(3, classes, 1)

    def forward(self, images: Tensor) -> NetworkOutput:
        logits = self.classify(images)
        return NetworkOutput(None, None, logits)


def create(config: TrainConfig, labels: SceneLabels) -> tuple[nn.Module, ModelConfig]:
    torch.manual_seed(config.seed)
    return EveryPixelAlone(len(labels.semantic_names)), ModelConfig(name=config.model, box_head=False)


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    for split in ('train', 'val'):
        write_cityscapes(tmp_path, count=2, split=split)
    return TrainConfig(
        model='every_pixel_alone', out=str(tmp_path / 'run'), epochs=20, val_every=20, batch_size=2, best_by='miou',
        device='cpu', precision='fp32', threads=1, input=InputConfig(size_hw=(128, 256)),
        data=DataConfig(root=str(tmp_path), workers=0), loss=LossConfig(box_cls=0.0, box_reg=0.0, region=0.0),
        optimizer=OptimizerConfig(lr=0.1, warmup_steps=0, ema_decay=0.5),
    )  # fmt: skip


def test_it_learns_and_is_graded_by_its_masks_alone(config: TrainConfig) -> None:
    assert Trainer(config, create=create).run()
    metrics = json.loads((config.folder / METRICS).read_text())
    # Of the labeled pixels 40 % are sky and 36 % road; the next class, car, has 18 %, and a guess hits 5 %.
    assert metrics['last']['semantic']['pixel_accuracy'] > 0.3
    assert metrics['last']['boxes'] is None
    assert metrics['parameters'] == 3 * 19 + 19
    assert (config.folder / RESUME).exists()
    assert not (config.folder / LAST).exists()  # no one could read them
    assert not (config.folder / BEST).exists()


def test_its_run_resumes(config: TrainConfig) -> None:
    trainer = Trainer(config, create=create)
    assert trainer.run()
    again = Trainer(config, resume=True, create=create)
    assert again.state.step == trainer.total_steps == 20
    assert torch.equal(again.network.module.classify.weight, trainer.network.module.classify.weight)


def test_its_cost_is_counted() -> None:
    model = EveryPixelAlone(19)
    (part,) = profile_network(model, (128, 256))
    assert (part.name, part.parameters, part.multiply_adds) == ('classify', 76, 128 * 256 * 3 * 19)
    assert part.outputs == ((19, 128, 256),)
