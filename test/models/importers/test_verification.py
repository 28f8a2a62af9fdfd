from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sembox_ros.errors import CheckpointError
from sembox_ros.models.checkpoint import Checkpoint
from sembox_ros.models.importers import deterministic
from sembox_ros.models.importers.verification import Golden, read_golden, verify_golden

GOLDENS = Path(__file__).resolve().parents[2] / 'goldens'
OUTPUTS = {'regression', 'classification', 'anchors', 'feature_p7', 'mid:backbone_net.3', 'mid:bifpn.0.4'}


@pytest.mark.parametrize('name', ['efficientdet_d0', 'efficientdet_d1'])
def test_imported_efficientdet_equals_the_original(name: str):
    golden = read_golden(GOLDENS / f'golden_{name}.npz')
    assert golden.source == name.replace('_', '-')
    report = verify_golden(golden)
    assert report.largest < 1e-3
    assert report.skipped == []
    assert {d.name for d in report.differences} >= OUTPUTS
    assert len(report.differences) == 20
    assert max(d.relative for d in report.differences) < 1e-4


def verify_changed(golden: Golden, change) -> dict[str, float]:
    def transform(checkpoint: Checkpoint) -> torch.nn.Module:
        change(checkpoint.model)
        return checkpoint.model

    return {d.name: d.absolute for d in verify_golden(golden, transform).differences}


def test_each_known_mistake_is_seen(golden_d0: Golden):
    """The comparison is worth something only if it notices what importers get wrong."""

    def wrong_eps(model: torch.nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = 1e-5

    def unswapped(model: torch.nn.Module) -> None:
        last = model.get_submodule('box_head.regress.last.1')
        last.bias.data = last.bias.data.unflatten(0, (9, 4))[:, [1, 0, 3, 2]].flatten()

    def one_weight(model: torch.nn.Module) -> None:
        model.get_submodule('box_neck.cells.2.bottom_up.1').weight.data[0] += 0.1

    assert verify_changed(golden_d0, wrong_eps)['feature_p3'] > 1e-3
    swapped = verify_changed(golden_d0, unswapped)
    assert swapped['regression'] > 1e-2
    assert swapped['classification'] < 1e-3
    assert verify_changed(golden_d0, one_weight)['feature_p5'] > 1e-3


def rewrite(tmp_path: Path, **changes: np.ndarray | None) -> Path:
    with np.load(GOLDENS / 'golden_efficientdet_d0.npz') as file:
        content = {name: file[name] for name in file.files}
    content.update(changes)
    path = tmp_path / 'golden.npz'
    np.savez(path, **{k: v for k, v in content.items() if v is not None})
    return path


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'format': np.array('2')}, "golden format 1, got '2'"),
        ({'network': np.array('YOLO v9')}, "'YOLO v9' is none of"),
        ({'network': np.array("EfficientDetBackbone {'compound_coef': 8} num_classes=90 eval")}, 'is none of'),
        ({'salt': np.array(1)}, 'weights have CRC-32'),
        ({'input_seed': np.array(1)}, 'input have CRC-32'),
        ({'norm_names': None}, "lacks 'norm_names"),
        ({'input_shape': np.array([1, 3, 10**6, 10**6])}, 'at most 1000000000'),
        ({'input_shape': np.array([3])}, 'not a readable golden'),
    ],
)
def test_a_golden_that_does_not_fit_is_refused(tmp_path: Path, changes, words: str):
    with pytest.raises(CheckpointError) as caught:
        read_golden(rewrite(tmp_path, **changes))
    assert words in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04 broken', b'\x80\x04junk'])
def test_what_is_no_npz_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / 'golden.npz'
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        read_golden(path)
    with pytest.raises(CheckpointError):
        read_golden(tmp_path / 'absent.npz')


def test_a_pickle_in_a_golden_is_not_read(tmp_path: Path):
    with pytest.raises(CheckpointError, match='allow_pickle'):
        read_golden(rewrite(tmp_path, network=np.array([{'a': 1}], dtype=object)))


def test_unknown_tensors_are_reported_not_passed_over(tmp_path: Path):
    extra = {'mid:bifpn.0.new': np.zeros((1, 2, 2), np.float32), 'shape:mid:bifpn.0.new': np.array([1, 1, 2, 2])}
    report = verify_golden(read_golden(rewrite(tmp_path, **extra)))
    assert report.skipped == ['mid:bifpn.0.new']
    assert report.largest < 1e-3


def test_nan_is_not_equal(golden_d0: Golden):
    outputs = {**golden_d0.outputs, 'regression': np.full_like(golden_d0.outputs['regression'], np.nan)}
    assert verify_golden(golden_d0._replace(outputs=outputs)).largest == float('inf')


def test_deterministic_weights_depend_on_name_shape_and_salt_alone():
    first = deterministic.fill('a.weight', (8, 4, 3, 3), 0)
    assert np.array_equal(first, deterministic.fill('a.weight', (8, 4, 3, 3), 0))
    assert not np.array_equal(first, deterministic.fill('b.weight', (8, 4, 3, 3), 0))
    assert not np.array_equal(first, deterministic.fill('a.weight', (8, 4, 3, 3), 1))
    assert np.abs(first.sum(axis=(1, 2, 3))).max() < 1e-6
    depthwise = deterministic.fill('a.weight', (8, 1, 3, 3), 0)
    assert np.allclose(depthwise.sum(axis=(1, 2, 3)), 1, atol=1e-6)
    assert deterministic.fill('n.running_var', (64,), 0, scale=3.0).min() >= 9
    assert deterministic.fill('n.num_batches_tracked', (), 0).dtype == np.int64
    assert deterministic.fill('bifpn.0.p6_w1', (2,), 0)[0] > 0
