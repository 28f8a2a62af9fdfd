"""Files of a network that was trained to be rounded."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from sembox_ros.cli import main
from sembox_ros.errors import CheckpointError
from sembox_ros.inference import verification
from sembox_ros.inference.choice import probe_batch
from sembox_ros.inference.export import ExportOptions, load_quantized, make_onnx, save_openvino
from sembox_ros.inference.graphs import load_exported
from sembox_ros.inference.predictor import Predictor
from sembox_ros.inference.quantize import quantize
from sembox_ros.inference.verification import verify_export
from sembox_ros.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sembox_ros.models.quantization import FakeQuantized

SIZE_HW = (128, 128)
OPTIONS = ExportOptions(precision='int8', size_hw=SIZE_HW, batch=1)


@pytest.fixture(scope='module')
def learnt(tiny_lite: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose ranges are those of one picture, made narrower, as training may."""
    network = FakeQuantized(tiny_lite.model, tiny_lite.config).train()
    with torch.no_grad():
        network(probe_batch(SIZE_HW))
    ranges = {name: (low * 0.8, high * 0.8) for name, (low, high) in network.ranges().items()}
    path = tmp_path_factory.mktemp('learnt') / 'learnt.safetensors'
    save_checkpoint(dataclasses.replace(tiny_lite, quantization=ranges), path)
    return path


@pytest.fixture(scope='module')
def written(learnt: Path) -> Path:
    """The int8 file of it, verified."""
    out = learnt.with_suffix('.onnx')
    size = ('--size', '128x128', '--batch', '1')
    assert main(['export', str(learnt), '--int8', '--verify', '--out', str(out), *size]) == 0
    return out


def run(model: onnx.ModelProto | Path, images: torch.Tensor) -> np.ndarray:
    source = model if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=['CPUExecutionProvider'])
    return session.run(['semantic_logits'], {'images': images.numpy()})[0]


def test_the_file_has_the_learnt_ranges_and_no_measured_ones(written: Path, learnt: Path) -> None:
    """It is what PyTorch computes with roundings, which a file with ranges of the same picture is not."""
    checkpoint, images = load_checkpoint(learnt), probe_batch(SIZE_HW).contiguous()
    with torch.inference_mode():
        wanted = load_quantized(checkpoint)(images).semantic_logits.numpy()
    plain = make_onnx(checkpoint, ExportOptions(size_hw=SIZE_HW, batch=1))
    ours, measured = (
        float(np.abs(run(model, images) - wanted).mean()) for model in (written, quantize(plain, [images.numpy()]))
    )
    # Random weights amplify every last bit in which onnxruntime rounds otherwise; trained ones hardly do.
    assert ours < measured / 2


def test_weights_are_stored_in_eight_bits(written: Path) -> None:
    graph = onnx.load(written).graph
    kinds = [tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 4]
    assert kinds.count(onnx.TensorProto.INT8) > 60
    assert kinds.count(onnx.TensorProto.FLOAT) == 1  # the convolution that reads the image
    operators = [node.op_type for node in graph.node]
    assert operators.count('QuantizeLinear') == len(load_exported(written).quantization)
    assert written.stat().st_size < 0.4 * written.with_suffix('.safetensors').stat().st_size


@pytest.mark.parametrize('engine', ['onnxruntime', 'openvino'])
def test_engines_run_it(written: Path, learnt: Path, engine: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (4, 8, 3), dtype=np.uint8).repeat(32, 0).repeat(32, 1)
    ours = Predictor.from_checkpoint(written, device='cpu', engine=engine, threads=1).predict([picture])[0]
    assert load_exported(written).graph_precision == 'int8'
    exact = Predictor.from_checkpoint(learnt, device='cpu', engine='torch', threads=1).predict([picture])[0]
    assert float((ours.semantic == exact.semantic).mean()) > 0.5  # the checkpoint itself rounds nothing
    assert (ours.semantic != exact.semantic).any()


def test_verification_sees_ranges_that_are_not_those(
    written: Path, learnt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, 'LEARNT_TOLERANCE', 0.25)  # the logits of random weights are small
    checkpoint = load_checkpoint(learnt)
    assert verify_export(written, checkpoint, OPTIONS)
    wider = {name: (16 * low, 16 * high) for name, (low, high) in checkpoint.quantization.items()}
    with pytest.raises(CheckpointError, match='computes something else'):
        verify_export(written, dataclasses.replace(checkpoint, quantization=wider), OPTIONS)


def test_openvino_files_are_right_too(written: Path, learnt: Path, tmp_path: Path) -> None:
    save_openvino(onnx.load(written), tmp_path / 'net.xml')
    options = dataclasses.replace(OPTIONS, format='openvino')
    found = verify_export(tmp_path / 'net.xml', load_checkpoint(learnt), options)
    assert {difference.runtime for difference in found} == {'openvino'}


def test_ranges_of_another_network_are_refused(
    learnt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'other.safetensors'
    save_checkpoint(dataclasses.replace(load_checkpoint(learnt), quantization={'elsewhere/add': (0.0, 1.0)}), path)
    assert main(['export', str(path), '--int8', '--out', str(tmp_path / 'net.onnx')]) == 1
    assert 'activations of this network, got 1; ' in capsys.readouterr().err
