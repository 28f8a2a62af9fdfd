"""Small files in the encodings of the public datasets, and ways to damage them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from hypothesis import strategies as st
from PIL import Image

# Any JSON value, with numbers beyond what any image can have.
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(0, 100)
    | st.floats(width=32)
    | st.sampled_from([10**30, 1e300, float('nan'), '', '../secret', '0L', 'person'])
    | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(st.sampled_from(['id', 'size', 'counts', 'image_id', 'name']) | st.text(max_size=3), children)
    ),
    max_leaves=8,
)


def paths_of(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every value within a JSON document is, itself first."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [prefix, *(path for key, item in items for path in paths_of(item, (*prefix, key)))]


@st.composite
def damaged(draw: st.DrawFn, document: Any) -> Any:
    """The document with one or two values replaced by anything."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(paths_of(document)))
        if not path:
            return draw(json_values)
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = draw(json_values)
    return document


def noise(size_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def write_photo(path: Path, size_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A file of noise; gives the (H, W, 3) uint8 rgb pixels that a reader of it must see."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(size_hw, seed)).save(path)
    with Image.open(path) as image:
        return np.array(image)


def write_palette(path: Path, indices: np.ndarray) -> None:
    """A palette PNG whose colours differ from its indices."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(indices, mode='P')
    image.putpalette([value for index in range(256) for value in (255 - index, index // 2, 7)])
    image.save(path)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """A grey (8 or 16 bits) or rgb PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels if pixels.ndim == 2 else pixels[..., ::-1])


def cut(path: Path) -> None:
    """Keep the first half of a file, as an interrupted copy does."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
