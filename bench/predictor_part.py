"""`Predictor.predict`: images in, scenes out, and what of that is not the network."""

from __future__ import annotations

import argparse
import time

import numpy as np
from report import Section
from timing import Candidate, Sample, measure_rounds

from sembox_ros.data.streets import render_street
from sembox_ros.inference.predictor import Predictor

SIZES_HW = ((512, 1024), (1024, 2048))
OUTPUTS = {
    'mask, detections': ('semantic', 'detections'),
    'mask, confidence, detections': ('semantic', 'confidence', 'detections'),
}


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
    predictor = Predictor.from_checkpoint(options.checkpoint or None, device='cpu', threads=options.threads)
    section = Section(
        title='Predictor, one image',
        about=(
            'From a rendered street (uint8) to a scene, in the engine and precision that the predictor chooses by '
            'itself. The rest is all but the network.'
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
        for name, outputs in OUTPUTS.items():
            candidates[f'{height}x{width}, {name}'] = lambda image=image, outputs=outputs: predict_once(
                predictor, image, outputs
            )
    measure_rounds(candidates, section.samples, rounds=options.rounds, warmup=3, title=section.title)
