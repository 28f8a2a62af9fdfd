"""How far colour and place alone get on rendered streets: if a lookup could label them, training would prove nothing.

Two classifiers label every pixel from its own colour and its place in the image, without looking at its neighbours:
a lookup in a quantised histogram, and a small network on colour, place and waves of both. Both learn from some
streets and are scored on others by the mIoU over the 19 classes; the better one must stay below `LIMIT`.

    python bench/street_hardness.py [--train N] [--test N] [--size HxW]
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from sembox_ros.cli.common import parse_size
from sembox_ros.data.streets import render_street
from sembox_ros.labels import CITYSCAPES_19

LIMIT = 0.35
FIRST_SEED = 100_000  # away from the demo and from what `python -m sembox_ros streets` writes
CLASSES = len(CITYSCAPES_19)
RESULTS = Path(__file__).parent / 'results'

# Levels of red, green, blue, row and column, and how far the class prior is evened out (0 = counts as they are,
# 1 = all classes equally likely): the histogram is tried with all of these and the best score counts.
HISTOGRAMS = tuple(itertools.product(((8, 8, 8, 8, 4), (16, 16, 16, 8, 4), (8, 8, 8, 16, 8)), (0.0, 0.5)))
NETWORK_PRIORS = (0.0, 0.3, 0.5)
NETWORK_STEPS = 3000
NETWORK_BATCH = 8192


def render(job: tuple[int, tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) uint8 and train ids (H, W) uint8 of one (seed, size)."""
    cv2.setNumThreads(1)
    still = render_street(size_hw=job[1], seed=job[0])
    return still.image, still.semantic


def pixels_of(images: np.ndarray, semantic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 5) float32 in 0..1 (red, green, blue, row, column) and train ids (n,) of all labelled pixels."""
    count, high, wide = semantic.shape
    rows = np.broadcast_to(((np.arange(high) + 0.5) / high)[None, :, None], (count, high, wide))
    columns = np.broadcast_to(((np.arange(wide) + 0.5) / wide)[None, None, :], (count, high, wide))
    known = semantic < CLASSES
    features = np.empty((int(known.sum()), 5), np.float32)
    for channel in range(3):
        features[:, channel] = images[..., channel][known] / 255.0
    features[:, 3], features[:, 4] = rows[known], columns[known]
    return features, semantic[known].astype(np.int64)


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """IoU (C,) of a confusion matrix (truth, prediction)."""
    hits = np.diag(confusion).astype(np.float64)
    return hits / np.maximum(confusion.sum(0) + confusion.sum(1) - hits, 1)


def confusion_of(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Confusion matrix (C, C) int64, rows are the truth."""
    return np.bincount(truth * CLASSES + predicted, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def score_histogram(train: tuple[np.ndarray, ...], test: tuple[np.ndarray, ...], levels: tuple[int, ...],
                    evening: float) -> np.ndarray:  # fmt: skip
    """Confusion of: every bin of colour and place says the class that it held most."""

    def bins(features: np.ndarray) -> np.ndarray:
        parts = [np.minimum((features[:, k] * n).astype(np.int64), n - 1) for k, n in enumerate(levels)]
        return np.ravel_multi_index(parts, levels)

    counts = np.bincount(bins(train[0]) * CLASSES + train[1], minlength=int(np.prod(levels)) * CLASSES)
    table = counts.reshape(-1, CLASSES) / np.bincount(train[1], minlength=CLASSES).clip(1) ** evening
    return confusion_of(table.argmax(axis=1)[bins(test[0])], test[1])


def expand(features: torch.Tensor) -> torch.Tensor:
    """Features (n, 5) with chromaticity, saturation and waves of every one, (n, 51)."""
    rgb = features[:, :3]
    total = rgb.sum(dim=1, keepdim=True) + 0.05
    high, low = rgb.amax(dim=1, keepdim=True), rgb.amin(dim=1, keepdim=True)
    base = torch.cat((features, rgb / total, (high - low) / (high + 0.05), high, (features[:, 4:] - 0.5).abs()), dim=1)
    waves = [f(features * (2.0**k * torch.pi)) for k in range(4) for f in (torch.sin, torch.cos)]
    return torch.cat((base, *waves), dim=1)


def train_network(features: np.ndarray, truth: np.ndarray) -> nn.Module:
    """Train a small network from one pixel's features to its class."""
    torch.manual_seed(0)
    inputs = expand(torch.from_numpy(features[:2])).shape[1]
    width = 128
    network = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, CLASSES))  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=NETWORK_STEPS)
    rng = np.random.default_rng(0)
    for _ in range(NETWORK_STEPS):
        picked = rng.integers(0, len(truth), NETWORK_BATCH)
        logits = network(expand(torch.from_numpy(features[picked])))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(truth[picked]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.inference_mode()
def score_network(network: nn.Module, train_truth: np.ndarray, test: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """Confusion of the network for each way to even out the class prior."""
    share = torch.from_numpy(np.bincount(train_truth, minlength=CLASSES) / len(train_truth)).float()
    found = {f'network, prior^{evening:g}': np.zeros((CLASSES, CLASSES), np.int64) for evening in NETWORK_PRIORS}
    for start in range(0, len(test[1]), 1 << 18):
        part = slice(start, start + (1 << 18))
        logits = network(expand(torch.from_numpy(test[0][part])))
        for evening, name in zip(NETWORK_PRIORS, found, strict=True):
            predicted = (logits - evening * share.clamp_min(1e-6).log()).argmax(dim=1).numpy()
            found[name] += confusion_of(predicted, test[1][part])
    return found


def presence(semantic: np.ndarray) -> list[dict[str, Any]]:
    """Pixel share and share of images (at least 20 pixels) of every class."""
    counts = np.stack([(semantic == index).sum(axis=(1, 2)) for index in range(CLASSES)])
    return [{'class': name, 'pixels': float(row.mean() / semantic[0].size), 'images': float((row >= 20).mean())}
            for name, row in zip(CITYSCAPES_19.names, counts, strict=True)]  # fmt: skip


def describe(result: dict[str, Any]) -> str:
    """Markdown of one run."""
    lines = [
        f'# Hardness of rendered streets, {result["date"]}, {result["machine"]}',
        '',
        f'mIoU over the 19 classes of classifiers that see one pixel (colour and place), {result["train"]} streets to',
        f'learn from, {result["test"]} others to score, {result["size_hw"][0]}x{result["size_hw"][1]}.'
        f' The best must stay below {LIMIT}.',
        '',
        '| classifier | mIoU | pixel accuracy |',
        '|---|---|---|',
        *(f'| {s["name"]} | {s["miou"]:.3f} | {s["pixel_accuracy"]:.3f} |' for s in result['scores']),
        '',
        f'Best: {result["best"]["miou"]:.3f} ({result["best"]["name"]}). Per class, with how often a class is there:',
        '',
        '| class | share of pixels | share of images (20 px or more) | IoU of the best |',
        '|---|---|---|---|',
        *(f'| {p["class"]} | {100 * p["pixels"]:.2f} % | {100 * p["images"]:.0f} % | {iou:.3f} |'
          for p, iou in zip(result['presence'], result['best']['iou'], strict=True)),
        '',
    ]  # fmt: skip
    return '\n'.join(lines)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Render, learn, score."""
    jobs = [(FIRST_SEED + index, options.size) for index in range(options.train + options.test)]
    with multiprocessing.get_context('spawn').Pool(options.workers) as pool:
        rendered = pool.map(render, jobs, chunksize=4)
    images, semantic = (np.stack(arrays) for arrays in zip(*rendered, strict=True))
    train = pixels_of(images[: options.train], semantic[: options.train])
    test = pixels_of(images[options.train :], semantic[options.train :])
    confusions = {f'histogram {"x".join(map(str, levels))}, prior^{evening:g}':
                  score_histogram(train, test, levels, evening) for levels, evening in HISTOGRAMS}  # fmt: skip
    confusions.update(score_network(train_network(*train), train[1], test))
    scores = []
    for name, confusion in confusions.items():
        iou = iou_per_class(confusion)
        accuracy = float(np.trace(confusion) / confusion.sum())
        scores.append({'name': name, 'miou': float(iou.mean()), 'pixel_accuracy': accuracy, 'iou': iou.tolist()})
    return {
        'date': datetime.date.today().isoformat(),
        'machine': options.name,
        'train': options.train,
        'test': options.test,
        'size_hw': list(options.size),
        'scores': scores,
        'best': max(scores, key=lambda score: score['miou']),
        'presence': presence(semantic),
    }


def main() -> None:
    """Measure, write the result files, and fail where the streets are too easy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--train', type=int, default=150, help='streets to learn from')
    parser.add_argument('--test', type=int, default=60, help='streets to score on')
    parser.add_argument('--size', type=parse_size, default=(256, 512), help='image size, HxW')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='processes that render')
    parser.add_argument('--name', default=f'{os.cpu_count()}core-cpu', help='name of the machine in the result file')
    result = measure(parser.parse_args())
    stem = RESULTS / f'{result["date"]}-{result["machine"]}-street_hardness'
    stem.with_suffix('.json').write_text(json.dumps(result, indent=1) + '\n')
    text = describe(result)
    stem.with_suffix('.md').write_text(text)
    print(text)
    if result['best']['miou'] >= LIMIT:
        raise SystemExit(f'too easy: {result["best"]["miou"]:.3f} is not below {LIMIT}')


if __name__ == '__main__':
    main()
