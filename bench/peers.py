"""Networks of other projects that do the same job in two, and their conversion to the engines that ours run in.

All have random weights, nothing is downloaded. `requirements.txt` beside this file has what must be installed; a
library that is missing leaves out its pair.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sembox_ros.inference.openvino_core import openvino_core
from sembox_ros.models.layers import measure_norms

SEMANTIC_CLASSES, DETECTION_CLASSES = 19, 90  # Cityscapes, COCO
Run = Callable[[Tensor], object]


def outputs_of(result: object) -> list[Tensor]:
    """The tensors in whatever a network returns, in order."""
    return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]


def consume(result: object) -> None:
    """Read the last value of every output, so that no output can be left uncomputed; the same for every candidate."""
    for tensor in outputs_of(result):
        if tensor.numel():
            tensor[(-1,) * tensor.ndim].item()


def settle(network: nn.Module, images: Tensor) -> nn.Module:
    """Measure the batch norms of a network with random weights on an image; returns it in evaluation mode.

    With the initial statistics a hundred layers of random weights fade to nearly nothing, with those of noise they grow
    without bounds: neither says how far engines are apart, and numbers too small for the normal format are slow.

    Args:
        network: takes (B, 3, H, W).
        images: (1, 3, H, W), what it is timed on; mirrored beside it, since some norms need two.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        measure_norms(network.train(), [torch.cat([images, images.flip(3)])])
    return network.eval()


class Detector(nn.Module):
    """torchvision's detectors with a plain signature: (1, 3, H, W) to boxes, labels and scores."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        [found] = self.network([images[0]])
        return found['boxes'], found['labels'], found['scores']


def create_torchvision_pair(images: Tensor) -> tuple[nn.Module, ...]:
    """DeepLabV3 and Faster R-CNN, both on MobileNetV3."""
    from torchvision.models import detection, segmentation

    deeplab = segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=SEMANTIC_CLASSES
    )
    boxes = detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=DETECTION_CLASSES + 1, trainable_backbone_layers=6
    )
    settle(boxes.backbone, nn.functional.interpolate(images, scale_factor=0.5, mode='bilinear'))
    return settle(deeplab, images), Detector(boxes).eval()


def create_efficient_peers(images: Tensor) -> tuple[nn.Module, nn.Module, nn.Module]:
    """EfficientDet-D1 (its raw network), FPN on EfficientNet-B1, and the same FPN with logits left at stride 4.

    Args:
        images: (1, 3, H, W), what they are timed on; EfficientDet is built for one size.
    """
    os.environ['HF_HUB_OFFLINE'] = '1'  # both can fetch weights, which nobody wants here
    import effdet
    import segmentation_models_pytorch

    config = effdet.get_efficientdet_config('tf_efficientdet_d1')
    config.image_size, config.num_classes = tuple(images.shape[2:]), DETECTION_CLASSES
    fpn, fpn_4 = (
        segmentation_models_pytorch.FPN(
            'efficientnet-b1', encoder_weights=None, classes=SEMANTIC_CLASSES, upsampling=upsampling
        )
        for upsampling in (4, 1)
    )
    boxes = effdet.EfficientDet(config, pretrained_backbone=False)
    return settle(boxes, images), settle(fpn, images), settle(fpn_4, images)


# ----------------------------------------------------------------------------------------------------------- engines


@functools.lru_cache(maxsize=4)
def _trace_for_openvino(network: nn.Module, images: Tensor) -> Any:
    """OpenVINO's model, which serves several precisions; a pair needs two of them at a time."""
    import openvino

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # tracing warns of every Python condition
        model = openvino.convert_model(network, example_input=images)
    model.reshape(list(images.shape))
    return model


def convert_to_openvino(network: nn.Module, images: Tensor, precision: str, threads: int) -> Run:
    """Any network through OpenVINO, for inputs of one shape.

    Args:
        network: in evaluation mode.
        images: an example (B, 3, H, W), float32.
        precision: fp32 or bf16.
        threads: of the engine.
    """

    model = _trace_for_openvino(network, images)
    options = {
        'PERFORMANCE_HINT': 'LATENCY',
        'NUM_STREAMS': 1,
        'INFERENCE_PRECISION_HINT': {'fp32': 'f32', 'bf16': 'bf16'}[precision],
        'INFERENCE_NUM_THREADS': threads,
    }
    request = openvino_core().compile_model(model, 'CPU', options).create_infer_request()

    def run(batch: Tensor) -> list[Tensor]:
        found = request.infer([batch.numpy()], share_inputs=True, share_outputs=True)
        return [torch.from_numpy(value) for value in found.values()]

    return run


def convert_to_onnxruntime(network: nn.Module, images: Tensor, precision: str, threads: int) -> Run:
    """Any network through ONNX Runtime; arguments as of `convert_to_openvino`, precision fp32 only."""
    import onnxruntime

    if precision != 'fp32':
        raise ValueError(f'precision: expected fp32, got {precision}')
    file = io.BytesIO()
    quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with torch.no_grad(), warnings.catch_warnings(), quiet[0], quiet[1]:  # a failure prints a thousand lines
        warnings.simplefilter('ignore')
        torch.onnx.export(network, (images,), dynamo=True, verbose=False).save(file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')  # as our engine has it
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=['CPUExecutionProvider'])
    name = session.get_inputs()[0].name

    def run(batch: Tensor) -> list[Tensor]:
        return [torch.from_numpy(value) for value in session.run(None, {name: batch.numpy()})]

    return run


CONVERTERS: dict[str, Callable[[nn.Module, Tensor, str, int], Run]] = {
    'openvino': convert_to_openvino,
    'onnxruntime': convert_to_onnxruntime,
}


def largest_difference(result: object, expected: object) -> float | None:
    """Largest absolute difference of two results' outputs; None if their shapes are not the same."""
    pairs: list[tuple[Any, Any]] = list(zip(outputs_of(result), outputs_of(expected), strict=False))
    if len(outputs_of(result)) != len(outputs_of(expected)) or any(a.shape != b.shape for a, b in pairs):
        return None
    return max((float((a.float() - b.float()).abs().max()) for a, b in pairs if a.numel()), default=0.0)
