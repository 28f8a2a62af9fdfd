"""The one door to inference: images in, scenes out."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from sembox_ros.config import DetectionConfig
from sembox_ros.errors import ConfigError, InputError
from sembox_ros.inference.choice import Candidate, choose_engine
from sembox_ros.inference.engines import create_engine
from sembox_ros.inference.graphs import EXPORTED, load_exported
from sembox_ros.inference.preprocess import Preprocessor, check_image
from sembox_ros.models.checkpoint import Checkpoint, load_bundled, load_checkpoint
from sembox_ros.models.sembox import NetworkOutput, map_sizes
from sembox_ros.ops.flow import measure_flow
from sembox_ros.ops.memory import keep_freed_memory
from sembox_ros.ops.placement import Placement, place_image
from sembox_ros.postprocess.scene import PARTS, Decoding, choose_fusion, decode_scene, parts_of
from sembox_ros.types import Scene, check_array

OUTPUTS = PARTS
STAGES = ('preprocess', 'network', 'postprocess')

# `decode_scene` with its thresholds: raw tensors of a batch, which image, where it lies, what the tensors mean.
DecodeScene = Callable[[NetworkOutput, int, Placement, Decoding], Scene]


def choose_device(name: str) -> torch.device:
    """The device that `name` (auto, cpu, cuda, cuda:N) stands for.

    Raises:
        ConfigError: unknown name, or not available on this machine.
    """
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == 'auto':
        return torch.device('cuda' if available else 'cpu')
    kind, colon, index = name.partition(':')
    if kind not in ('cpu', 'cuda') or (colon and not index.isdecimal()) or (kind == 'cpu' and colon):
        raise ConfigError(f"device: expected auto, cpu, cuda or cuda:N, got '{name}'")
    if kind == 'cuda' and int(index or 0) >= available:
        raise ConfigError(f"device: '{name}' is not available, torch finds {available} CUDA device(s); use device:=cpu")
    return torch.device(name)


class _View(NamedTuple):
    """An image, where it goes, and what is known of how it came about: the one before it, or the flow."""

    image: np.ndarray
    placement: Placement
    previous: np.ndarray | None
    flow: np.ndarray | None

    def find_flow(self) -> np.ndarray:
        """(h, w, 2) float32 in pixels of its own size."""
        if self.flow is not None:
            return self.flow
        return measure_flow(self.image, self.previous, self.placement.scaled_hw)


class Predictor:
    """Runs one checkpoint on one device.

    Args:
        checkpoint: network, label sets and input geometry.
        device: auto, cpu, cuda or cuda:N.
        engine: auto, or a name in `engines.ENGINES`. Auto takes what a short measurement finds fastest and accurate;
            the first one for a network and a machine takes up to a minute (see `choice.choose_engine`).
        precision: auto, fp32, fp16 or bf16.
        threads: CPU threads; 0 takes all cores. Process-wide, as torch has it.

    Attributes:
        checkpoint: what was given.
        labels: its label sets.
        parts: what this network gives, of `OUTPUTS`.
        takes_flow: whether the network sees what moved since the camera's image before.
        device: what the network was asked to run on.
        engine: what runs it.
        measured: what `engine='auto'` chose from, fastest first; empty for an engine that was named.

    Raises:
        ConfigError: the device, the engine, the precision or the number of threads is not to be had.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = 'auto',
        engine: str = 'auto',
        precision: str = 'auto',
        threads: int = 0,
    ) -> None:
        self.checkpoint = checkpoint
        self.labels = checkpoint.labels
        self.parts = parts_of(checkpoint.config, checkpoint.labels)
        self.takes_flow = 'flow' in checkpoint.config.inputs
        self.device = choose_device(device)
        if threads < 0:
            raise ConfigError(f'threads: expected 0 (all cores) or more, got {threads}')
        torch.set_num_threads(threads or os.cpu_count() or 1)
        keep_freed_memory()
        self.measured: tuple[Candidate, ...] = ()
        if engine == 'auto':
            self.engine, self.measured = choose_engine(
                checkpoint, device=self.device, precision=precision, threads=threads
            )
        else:
            self.engine = create_engine(checkpoint, engine, device=self.device, precision=precision, threads=threads)
        self._preprocess = Preprocessor(checkpoint.input, device=self.engine.device, dtype=self.engine.dtype)
        self._decodings: dict[tuple[int, int], Decoding] = {}
        side_by_side = self.engine.device.type == 'cpu' and torch.get_num_threads() > 1
        self._pool = ThreadPoolExecutor(torch.get_num_threads()) if side_by_side else None

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path | None = None,
        *,
        device: str = 'auto',
        engine: str = 'auto',
        precision: str = 'auto',
        threads: int = 0,
    ) -> Predictor:
        """Load a checkpoint or an exported file, or the bundled checkpoint if `path` is None, and make it ready.

        Raises:
            CheckpointError: the file is missing or unusable.
            ConfigError: the device, the engine or the precision is not to be had.
        """
        choose_device(device)  # fail before the file is read
        if path is None:
            checkpoint = load_bundled()
        else:
            checkpoint = load_exported(path) if Path(path).suffix in EXPORTED else load_checkpoint(path)
        return cls(checkpoint, device=device, engine=engine, precision=precision, threads=threads)

    def predict(
        self,
        images: Sequence[np.ndarray],
        *,
        previous: Sequence[np.ndarray | None] | None = None,
        flows: Sequence[np.ndarray] | None = None,
        detection: DetectionConfig | None = None,
        outputs: Iterable[str] = OUTPUTS,
        min_instance_score: float = 0.0,
    ) -> list[Scene]:
        """Semantics, boxes and panoptic scenes of some images.

        Images whose canvas has one size run as one batch; an image's result does not depend on its neighbours.

        Args:
            images: (H, W, 3) uint8 rgb each, any size from one pixel up, sizes may differ.
            previous: for networks that take flow, the image before each of them from the same camera, from which flow
                is measured; where there is none, or one of another size, nothing moved. Other networks pass it over.
            flows: in place of `previous`, flow that is known: (H, W, 2) float32 dx, dy for each image, in its pixels,
                from where a point is to where it was.
            detection: thresholds; defaults apply when None.
            outputs: what is wanted, of `OUTPUTS`; the rest is None in the scenes, as is what the network does not
                give: see `parts`. With panoptic come segments.
            min_instance_score: detections below it get no pixels, as if they were not there: AP wants boxes of lower
                scores than a panoptic scene should have.

        Returns:
            One scene per image, in order, at the size of its image. `timings_ms` holds the stages of the batch.

        Raises:
            InputError: an image, or the one before it, is not a non-empty (H, W, 3) uint8 array, or a flow has not the
                shape and type that it should have.
            ConfigError: an unknown output name, or `detection.fusion` needs what the network does not have.
        """
        wanted = frozenset(outputs)
        if not wanted <= OUTPUTS:
            raise ConfigError(f'outputs: expected some of {sorted(OUTPUTS)}, got {sorted(wanted)}')
        detection = detection or DetectionConfig()
        self.choose_fusion(detection)  # fail before the network runs
        views = self._view(images, previous, flows)
        groups: dict[tuple[int, int], list[int]] = {}
        for index, view in enumerate(views):
            groups.setdefault(view.placement.canvas_hw, []).append(index)
        decode = partial(decode_scene, detection=detection, wanted=wanted, min_instance_score=min_instance_score)
        scenes: dict[int, Scene] = {}
        for members in groups.values():
            batch = self._predict_batch([views[i] for i in members], decode)
            scenes.update(zip(members, batch, strict=True))
        return [scenes[i] for i in range(len(images))]

    def _view(
        self,
        images: Sequence[np.ndarray],
        previous: Sequence[np.ndarray | None] | None,
        flows: Sequence[np.ndarray] | None,
    ) -> list[_View]:
        """What `predict` is given, checked."""
        for name, given in (('previous', previous), ('flows', flows)):
            if given is not None and len(given) != len(images):
                raise InputError(f'{name}: expected one for each of {len(images)} image(s), got {len(given)}')
        nothing = [None] * len(images)
        config, views = self.checkpoint.input, []
        for image, before, flow in zip(images, previous or nothing, flows or nothing, strict=True):
            check_image(image)
            if before is not None:
                check_image(before)
            if flow is not None:
                check_array('flows', flow, (*image.shape[:2], 2), np.float32)
            placement = place_image((image.shape[0], image.shape[1]), config.size_hw, config.resize)
            views.append(_View(image, placement, before, flow))
        return views

    @torch.inference_mode()
    def _predict_batch(self, views: Sequence[_View], decode: DecodeScene) -> list[Scene]:
        placements = [view.placement for view in views]
        marks = [self._clock()]
        flows = [view.find_flow() for view in views] if self.takes_flow else None
        batch = self._preprocess([view.image for view in views], placements, flows)
        marks.append(self._clock())
        raw = self.engine(batch)
        marks.append(self._clock())
        scenes = self._decode_all(raw, placements, decode)
        marks.append(self._clock())
        timings = {name: (end - start) * 1e3 for name, start, end in zip(STAGES, marks, marks[1:], strict=False)}
        return [dataclasses.replace(scene, timings_ms=timings) for scene in scenes]

    def _decode_all(self, raw: NetworkOutput, placements: Sequence[Placement], decode: DecodeScene) -> list[Scene]:
        """What is in each image; several images side by side on a CPU."""
        decoding = self._decoding_of(placements[0].canvas_hw, raw)

        @torch.inference_mode()
        def decode_one(index: int) -> Scene:
            return decode(raw, index, placements[index], decoding)

        # One image alone is faster without: PyTorch's own threads then have the cores.
        apply = map if self._pool is None or len(placements) == 1 else self._pool.map
        return list(apply(decode_one, range(len(placements))))

    def choose_fusion(self, detection: DetectionConfig) -> str:
        """Where this network's instances come from: 'boxes', or a fusion of masks, whose boxes are the detections.

        'auto' for a network that finds no objects at all.

        Raises:
            ConfigError: the network does not have what `detection.fusion` needs.
        """
        model = self.checkpoint.config
        return choose_fusion(detection.fusion, has_boxes=model.box_head, has_masks=bool(model.instance_channels))

    def device_memory_bytes(self) -> int:
        """Memory that torch holds on the CUDA device, in bytes; 0 on the CPU."""
        return torch.cuda.memory_reserved(self.device) if self.device.type == 'cuda' else 0

    def _decoding_of(self, canvas_hw: tuple[int, int], raw: NetworkOutput) -> Decoding:
        if canvas_hw not in self._decodings:
            if len(self._decodings) >= 8:  # a stream of ever-changing sizes must not grow memory
                self._decodings.clear()
            self._decodings[canvas_hw] = Decoding.of_canvas(
                canvas_hw,
                model=self.checkpoint.config,
                labels=self.labels,
                semantic_sizes=map_sizes(self.checkpoint.model, raw),
                semantic_extent=self.checkpoint.input.semantic_extent,
                device=self.engine.device,
            )
        return self._decodings[canvas_hw]

    def _clock(self) -> float:
        """Seconds now, after the device has caught up."""
        if self.engine.device.type == 'cuda':
            torch.cuda.synchronize(self.engine.device)
        return time.perf_counter()
