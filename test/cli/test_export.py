from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from sembox_ros.cli import export as export_module
from sembox_ros.cli import main
from sembox_ros.errors import CheckpointError
from sembox_ros.inference import verification
from sembox_ros.inference.export import ExportedNetwork, ExportOptions, output_names, save_openvino
from sembox_ros.inference.graphs import find_graph, load_exported
from sembox_ros.inference.predictor import Predictor
from sembox_ros.inference.quantize import quantize, sensitive_nodes
from sembox_ros.inference.verification import verify_export
from sembox_ros.models.checkpoint import Checkpoint, load_checkpoint
from sembox_ros.models.sembox import output_fields, resize_maps

# What TensorRT's ONNX parser supports, of the operators that such networks have: docs/operators.md of the repository
# onnx/onnx-tensorrt at release 10.1, which also says that the opset may be 9 to 20. Nothing was run on TensorRT.
TENSORRT_OPERATORS = {
    'Add', 'ArgMax', 'Cast', 'Concat', 'Constant', 'Conv', 'Div', 'Expand', 'Gather', 'Identity', 'MatMul', 'MaxPool',
    'Mul', 'Pad', 'Range', 'ReduceMean', 'Reshape', 'Resize', 'Shape', 'Sigmoid', 'Slice', 'Split', 'Squeeze', 'Sub',
    'Transpose', 'Unsqueeze',
}  # fmt: skip


@pytest.fixture(scope='module')
def tiny(tiny_checkpoint_path: Path) -> Checkpoint:
    return load_checkpoint(tiny_checkpoint_path)


@pytest.fixture(scope='module')
def plain(tiny_onnx: Path) -> onnx.ModelProto:
    return onnx.load(tiny_onnx)


@pytest.fixture(scope='module')
def written(tiny_checkpoint_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fixed half file with everything in it, verified."""
    out = tmp_path_factory.mktemp('out') / 'net.onnx'
    given = ['--size', '128x256', '--batch', '1', '--half', '--preprocessing', '--argmax', '--verify']
    assert main(['export', str(tiny_checkpoint_path), '--out', str(out), *given]) == 0
    return out


def test_everything_at_once_is_verified_and_alone_in_its_folder(written: Path) -> None:
    assert [path.name for path in written.parent.iterdir()] == ['net.onnx']
    graph = onnx.load(written).graph
    shapes = [[d.dim_value for d in value.type.tensor_type.shape.dim] for value in graph.input]
    assert shapes == [[1, 128, 256, 3]]
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [o.name for o in graph.output] == ['class_logits', 'box_regression', 'semantic_ids']
    assert graph.output[2].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    with pytest.raises(CheckpointError, match='--preprocessing, which is for other runtimes'):
        load_exported(written)


def test_operators_are_those_that_tensorrt_documents(plain: onnx.ModelProto, written: Path) -> None:
    for model in (plain, onnx.load(written)):
        assert {node.op_type for node in model.graph.node} <= TENSORRT_OPERATORS
        assert {opset.version for opset in model.opset_import if opset.domain in ('', 'ai.onnx')} == {18}


def test_the_plain_file_is_right_and_verification_sees_the_padding_trap(
    plain: onnx.ModelProto, tiny: Checkpoint, tmp_path: Path
) -> None:
    """With zero for padding, onnxruntime fuses it into max-poolings, which pad with minus infinity."""
    path = tmp_path / 'a.onnx'
    onnx.save(plain, path)
    found = verify_export(path, tiny, ExportOptions())
    assert {(d.runtime, d.shape) for d in found} == {
        (runtime, (count, 3, *size)) for runtime in ('onnxruntime', 'openvino') for count in (1, 2)
        for size in verification.SIZES_HW
    }  # fmt: skip
    trapped = onnx.ModelProto()
    trapped.CopyFrom(plain)
    pads = [node for node in trapped.graph.node if node.op_type == 'Pad' and node.input[2] == 'almost_zero']
    assert pads
    for node in pads:
        del node.input[2:]
    onnx.save(trapped, path)
    with pytest.raises(CheckpointError, match='computes something else: onnxruntime'):
        verify_export(path, tiny, ExportOptions())


def test_a_network_with_instances_is_exported_as_well(tiny_solo: Checkpoint, tmp_path: Path) -> None:
    graph, names = find_graph(tiny_solo), output_fields(tiny_solo.config)
    assert names == ('semantic_logits', 'category_logits', 'mask_kernels', 'mask_features')
    model = onnx.load(graph)
    assert tuple(output.name for output in model.graph.output) == names
    assert {node.op_type for node in model.graph.node} <= TENSORRT_OPERATORS
    ranges = {node.output[0] for node in model.graph.node if node.op_type == 'Range'}
    kinds = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info if v.name in ranges}
    assert kinds == dict.fromkeys(ranges, onnx.TensorProto.INT64)  # that document: others of constant sizes only
    save_openvino(model, tmp_path / 'net.xml')
    for path, options in ((graph, ExportOptions()), (tmp_path / 'net.xml', ExportOptions(format='openvino'))):
        found = verify_export(path, tiny_solo, options)
        assert {d.output for d in found} == set(names)
        assert {d.shape[2:] for d in found} == set(verification.SIZES_HW)


def test_class_ids_are_where_the_semantic_logits_were(tiny_solo: Checkpoint) -> None:
    options = ExportOptions(argmax=True)
    images = verification.probe_batch((128, 256))
    with torch.inference_mode():
        given = dict(zip(output_names(tiny_solo, options), ExportedNetwork(tiny_solo, options)(images), strict=True))
        wanted = resize_maps(tiny_solo.model, tiny_solo.model(images))
    assert list(given) == ['semantic_ids', 'category_logits', 'mask_kernels', 'mask_features']
    assert given['semantic_ids'].dtype == torch.uint8
    assert (given['semantic_ids'] == wanted.semantic_logits.argmax(dim=1)).float().mean() > 0.999
    torch.testing.assert_close(given['mask_features'], wanted.mask_features, atol=1e-3, rtol=0)


def test_a_wrong_file_is_not_left_behind(
    tiny_checkpoint_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(verification.TOLERANCES, 'fp32', -1.0)
    out = tmp_path / 'net.pt'
    out.write_bytes(b'before')
    given = ['--format', 'torchscript', '--size', '128x128', '--batch', '1', '--verify']
    assert main(['export', str(tiny_checkpoint_path), '--out', str(out), *given]) == 1
    assert 'export: the exported file computes something else: torchscript' in capsys.readouterr().err
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [('net.pt', b'before')]


def test_an_interrupt_leaves_nothing(
    tiny_checkpoint_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_checkpoint: Checkpoint, path: Path, *_rest: object) -> None:
        path.write_bytes(b'half')
        raise KeyboardInterrupt

    monkeypatch.setattr(export_module, 'write_files', interrupted)
    assert main(['export', str(tiny_checkpoint_path), '--out', str(tmp_path / 'net.onnx')]) == 130
    assert list(tmp_path.iterdir()) == []


def test_int8_keeps_the_gates_and_most_of_the_numbers(plain: onnx.ModelProto, tiny: Checkpoint, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    preprocess = Predictor(tiny, device='cpu', engine='torch', threads=1)._preprocess
    placement = verification.place_image((128, 256), (128, 256), 'stretch')
    batch = preprocess([picture], [placement]).contiguous().numpy().copy()
    model = quantize(plain, [batch])
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count('QuantizeLinear') > 20
    kept = set(sensitive_nodes(plain.graph))
    named = {node.name: node for node in model.graph.node}
    producers = {name for node in model.graph.node if node.op_type == 'DequantizeLinear' for name in node.output}
    convolutions = [named[name] for name in kept if named[name].op_type == 'Conv']
    assert len(convolutions) == 1 + 2 * sum(node.op_type == 'ReduceMean' for node in plain.graph.node)
    assert not any(node.input[1] in producers for node in convolutions)  # weights still in float32


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        (['--out', 'net.xml'], '--out: onnx needs a name ending in .onnx, got net.xml'),
        (['--int8', '--half'], '--int8 and --half: choose one'),
        (['--int8', '--argmax'], 'int8: comes as onnx or openvino, without'),
        (['--size', '100x100'], 'multiples of 128'),
        (['--size', 'large'], 'expected HEIGHTxWIDTH'),
        (['--batch', '-1'], 'batch: expected a value in 0..64'),
        (['--int8', '--calibration-images', '0'], 'expected at least 1, got 0'),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    tiny_checkpoint_path: Path, given: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['export', str(tiny_checkpoint_path), *given]) == 1
    assert words in capsys.readouterr().err
