"""The original's geometry. The numbers of the published network are compared in test/models/importers."""

from __future__ import annotations

import copy
import dataclasses
from typing import ClassVar

import pytest
import torch
from torch import nn

from sembox_ros.config import InputConfig
from sembox_ros.errors import CheckpointError, InputError
from sembox_ros.models.checkpoint import Checkpoint
from sembox_ros.models.profile import profile_model
from sembox_ros.models.semanticboxnet_v1 import (
    CANVAS_HW,
    CLASSIFIED_HW,
    FRAME_HW,
    V1_CONFIG,
    V1_INPUT,
    FoldedFrameClassifier,
    FrameClassifier,
    ShrinkingDensePredictionCell,
)
from sembox_ros.ops.anchors import create_anchors
from sembox_ros.ops.resize import resize_through

pytest.register_assert_rewrite('contract')
from contract import (  # noqa: E402  (asserts explain themselves only if told before)
    DETECTION_CLASSES,
    SEMANTIC_CLASSES,
    ModelContract,
    create_subject,
    given,
    noise,
    run,
)

# The same wiring on the same canvas, so narrow that a test can afford it.
NARROW = dataclasses.replace(
    V1_CONFIG, encoder='efficientnet-b0', neck_channels=16, neck_cells=2, box_head_depth=1, semantic_channels=8
)
UNREAD = ('semantic_neck.cells.1.bottom_up.2.', 'semantic_neck.cells.1.bottom_up.3.')


@pytest.fixture(scope='module')
def subject() -> Checkpoint:
    return create_subject(NARROW)


class TestSemanticBoxNetV1(ModelContract):
    canvas_hw: ClassVar[tuple[int, int]] = CANVAS_HW

    @pytest.mark.parametrize('size_hw', [CANVAS_HW])
    def test_output_shapes(self, subject: Checkpoint, size_hw: tuple[int, int]) -> None:
        anchors = len(create_anchors(size_hw))
        assert [tuple(tensor.shape) for tensor in run(subject.model, noise(2, 3, *size_hw))] == [
            (2, anchors, DETECTION_CLASSES),
            (2, anchors, 4),
            (2, SEMANTIC_CLASSES, 512, 1024),
        ]

    def test_gradients_reach_every_parameter(self, subject: Checkpoint) -> None:
        model = copy.deepcopy(subject.model).train()
        model.encoder.drop_connect_rate = 0.0  # one image: a skipped block would have no gradient
        outputs = given(model(noise(1, 3, *CANVAS_HW)))
        sum((tensor * noise(*tensor.shape, seed=i)).sum() for i, tensor in enumerate(outputs)).backward()
        without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
        # The published weights hold p6 and p7 of the last semantic cell, which nothing reads.
        assert without == {name for name, _ in model.named_parameters() if name.startswith(UNREAD)}
        assert all(p.grad.any() and torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)

    @pytest.mark.parametrize(
        ('shape', 'words'),
        [
            ((1, 3, 512, 1024), ('(B, 3, 768, 768)', '512x1024')),
            ((1, 3, 0, 768), ('(B, 3, 768, 768)', '0x768')),
            ((1, 4, 768, 768), ('(B, 3, H, W)', '(1, 4, 768, 768)')),
            ((3, 768, 768), ('(B, 3, H, W)', '(3, 768, 768)')),
        ],
    )
    def test_wrong_shape_is_refused(self, subject: Checkpoint, shape: tuple[int, ...], words: tuple[str, ...]) -> None:
        with pytest.raises(InputError, match=r'^images: ') as caught:
            run(subject.model, torch.zeros(shape))
        for word in words:
            assert word in str(caught.value)

    @pytest.mark.parametrize(
        'geometry', [InputConfig(), InputConfig(size_hw=CANVAS_HW), dataclasses.replace(V1_INPUT, size_hw=(768, 896))]
    )
    def test_input_geometry_of_another_network_is_refused(self, subject: Checkpoint, geometry: InputConfig) -> None:
        with pytest.raises(CheckpointError, match=r'semanticboxnet_v1 needs size_hw \(768, 768\)'):
            dataclasses.replace(subject, input=geometry)


def test_parameters_and_multiply_adds_are_the_original_s() -> None:
    plain, folded = (profile_model(V1_CONFIG, CANVAS_HW, folded=folded) for folded in (False, True))
    assert sum(part.parameters for part in plain) == 12_187_138
    assert sum(part.multiply_adds for part in plain) == pytest.approx(149e9, rel=0.005)
    assert sum(part.multiply_adds for part in folded) == pytest.approx(29.6e9, rel=0.005)


@pytest.mark.parametrize('size_hw', [(24, 24), (48, 48), (32, 40), (33, 33)])
def test_dense_prediction_cell_keeps_the_size_though_its_branches_shrink(size_hw: tuple[int, int]) -> None:
    cell = ShrinkingDensePredictionCell(4, 6).eval()
    shapes = {}
    for name, branch in cell.named_children():
        branch.register_forward_hook(lambda _m, _i, out, name=name: shapes.update({name: tuple(out.shape[2:])}))
    height, width = size_hw
    assert cell(noise(1, 4, *size_hw)).shape == (1, 6, height, width)
    assert shapes['entry'] == (height, width - 10)
    assert shapes['wide'] == (height - 10, width - 22)
    assert shapes['far'] == ((8, 42) if min(size_hw) < 33 else (height - 28, width - 22))
    assert shapes['far_again'] == (height - 10, width - 4)


def test_collapsed_classifier_is_the_same_function() -> None:
    torch.manual_seed(0)
    plain = FrameClassifier(12, 5).eval()
    folded = plain.folded()
    assert isinstance(folded, FoldedFrameClassifier)
    assert [m.kernel_size for m in folded.modules() if isinstance(m, nn.Conv2d)] == [(1, 1), (1, 1)]
    branches = [noise(2, 12, 96, 96, seed=i) for i in range(3)]
    with torch.inference_mode():
        expected, small = plain(branches), folded(branches)
    assert small.shape == (2, 5, 250, 250)
    got = resize_through(small, [CLASSIFIED_HW, FRAME_HW])
    assert float((got - expected).abs().max() / expected.abs().max()) < 1e-5
    margin = expected.topk(2, dim=1).values.diff(dim=1).abs()[:, 0]
    assert torch.equal(got.argmax(1)[margin > 1e-5], expected.argmax(1)[margin > 1e-5])
