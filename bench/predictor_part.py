"""`Predictor.predict`: images in, scenes out, and what of that is not the network."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import time

import numpy as np
from report import Section
from timing import Candidate, Sample, measure_rounds

from sembox_ros.data.streets import render_street
from sembox_ros.inference.predictor import Predictor
from sembox_ros.models.checkpoint import Checkpoint, load_bundled, load_checkpoint

SIZES_HW = ((512, 1024), (1024, 2048))
CANVAS_HW = (512, 1024)  # the default of sembox_b1; the bundled checkpoint has a smaller one
OUTPUTS = {
    'mask, detections': ('semantic', 'detections'),
    'mask, confidence, detections': ('semantic', 'confidence', 'detections'),
}


def create_predictor(checkpoint: Checkpoint, canvas_hw: tuple[int, int], threads: int) -> Predictor:
    """The checkpoint's predictor on another canvas."""
    geometry = dataclasses.replace(checkpoint.input, size_hw=canvas_hw)
    return Predictor(dataclasses.replace(checkpoint, input=geometry), device='cpu', threads=threads)


def predict_once(predictor: Predictor, image: np.ndarray, outputs: tuple[str, ...]) -> Sample:
    """One image through the predictor; milliseconds by its own stages, and what the network leaves of the whole."""
    start = time.perf_counter()
    [scene] = predictor.predict([image], outputs=outputs)
    total = (time.perf_counter() - start) * 1e3
    stages = scene.timings_ms
    rest = total - stages['network']
    return {
        'ms': total, 'network_ms': stages['network'], 'preprocess_ms': stages['preprocess'],
        'postprocess_ms': stages['postprocess'], 'rest_ms': rest, 'rest_percent': 100 * rest / stages['network'],
    }  # fmt: skip


def run_predictor_part(options: argparse.Namespace, sections: list[Section]) -> None:
    """Measure every size and set of outputs; the section is added before it is measured."""
    checkpoint = load_checkpoint(options.checkpoint) if options.checkpoint else load_bundled()
    canvases = dict.fromkeys((checkpoint.input.size_hw, CANVAS_HW))
    predictors = {canvas_hw: create_predictor(checkpoint, canvas_hw, options.threads) for canvas_hw in canvases}
    section = Section(
        title='Predictor, one image',
        about=(
            'From a rendered street (uint8) to a scene, in the engine and precision that the predictor chooses by '
            'itself. The canvas is what the image is scaled to for the network: the one of the checkpoint, and '
            'the default of sembox_b1. The rest is all but the network.'
        ),
        measures={
            'ms': 'whole, ms', 'network_ms': 'network, ms', 'preprocess_ms': 'preprocess, ms',
            'postprocess_ms': 'postprocess, ms', 'rest_ms': 'rest, ms', 'rest_percent': 'rest / network, %',
        },
    )  # fmt: skip
    sections.append(section)
    candidates: dict[str, Candidate] = {}
    for height, width in SIZES_HW:
        image = render_street(size_hw=(height, width), seed=1).image
        for canvas_hw, predictor in predictors.items():
            for words, outputs in OUTPUTS.items():
                name = f'{height}x{width}, canvas {canvas_hw[0]}x{canvas_hw[1]}, {words}'
                candidates[name] = functools.partial(predict_once, predictor, image, outputs)
    for (height, width), predictor in predictors.items():
        chosen = f'{predictor.engine.name} {predictor.engine.precision}'
        section.notes.append(f'On the canvas of {height}x{width} it chose {chosen}.')
    measure_rounds(candidates, section.samples, rounds=options.rounds, warmup=3, title=section.title)
