from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import Tensor

from sembox_ros.errors import ConfigError
from sembox_ros.inference import choice, engines
from sembox_ros.inference.choice import Candidate, choose_engine, probe_batch
from sembox_ros.inference.engines.torch_engine import TorchEngine
from sembox_ros.models.checkpoint import Checkpoint, load_checkpoint
from sembox_ros.models.sembox import NetworkOutput

CPU = torch.device('cpu')


class Fast(TorchEngine):
    """Gives what it gave first, at once."""

    name = 'fast'
    kept: NetworkOutput | None = None

    def __call__(self, batch: Tensor) -> NetworkOutput:
        if self.kept is None:
            self.kept = super().__call__(batch)
        return self.kept


class Wrong(Fast):
    """Its classes are off, and it is even faster than Fast's first call."""

    name = 'wrong'

    def __call__(self, batch: Tensor) -> NetworkOutput:
        output = super().__call__(batch)
        return output._replace(class_logits=output.class_logits + 3)


class NoNumber(Fast):
    name = 'no number'

    def __call__(self, batch: Tensor) -> NetworkOutput:
        output = super().__call__(batch)
        return output._replace(semantic_logits=output.semantic_logits * torch.nan)  # type: ignore[operator]


class WrongMasks(Fast):
    name = 'wrong masks'

    def __call__(self, batch: Tensor) -> NetworkOutput:
        output = super().__call__(batch)
        return output._replace(mask_features=-output.mask_features)  # type: ignore[operator]


class WrongCategories(Fast):
    name = 'wrong categories'

    def __call__(self, batch: Tensor) -> NetworkOutput:
        output = super().__call__(batch)
        return output._replace(category_logits=output.category_logits * torch.nan)  # type: ignore[operator]


class WrongDepth(Fast):
    name = 'wrong depth'

    def __call__(self, batch: Tensor) -> NetworkOutput:
        output = super().__call__(batch)
        return output._replace(log_depth=output.log_depth + 0.02)  # type: ignore[operator]


class WrongMotion(Fast):
    name = 'wrong motion'

    def __call__(self, batch: Tensor) -> NetworkOutput:
        output = super().__call__(batch)
        return output._replace(motion_logits=-output.motion_logits)  # type: ignore[operator]


class NoDepth(Fast):
    name = 'no depth'

    def __call__(self, batch: Tensor) -> NetworkOutput:
        output = super().__call__(batch)
        return output._replace(log_depth=output.log_depth * torch.nan)  # type: ignore[operator]


class Broken(TorchEngine):
    name = 'broken'

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        raise ConfigError('the driver is too old')


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> Path:
    """Engines that need no export, and an empty cache."""
    table = {'torch': TorchEngine, 'fast': Fast, 'wrong': Wrong, 'no number': NoNumber, 'broken': Broken}
    for module in (choice, engines):
        monkeypatch.setattr(module, 'ENGINES', MappingProxyType(table))
    return own_cache


def choose(checkpoint: Checkpoint, *, precision: str = 'auto', threads: int = 1) -> tuple[Any, dict[str, Candidate]]:
    engine, measured = choose_engine(checkpoint, device=CPU, precision=precision, threads=threads)
    return engine, {candidate.engine: candidate for candidate in measured}


def test_the_fastest_accurate_one_is_taken(known: Path, tiny: Checkpoint) -> None:
    engine, measured = choose(tiny)
    assert engine.name == 'fast'
    assert list(measured)[:2] == ['fast', 'torch']
    assert measured['fast'].milliseconds < measured['torch'].milliseconds
    assert 'is inaccurate' in measured['wrong'].problem
    assert measured['wrong'].score_shift > choice.MAX_SCORE_SHIFT
    assert 'is inaccurate' in measured['no number'].problem
    assert 'the driver is too old' in measured['broken'].problem


def test_instances_count_as_boxes_do(
    own_cache: Path, tiny_solo: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {'torch': TorchEngine, 'fast': Fast, 'wrong masks': WrongMasks, 'wrong categories': WrongCategories}
    for module in (choice, engines):
        monkeypatch.setattr(module, 'ENGINES', MappingProxyType(table))
    engine, measured = choose(tiny_solo)
    assert engine.name == 'fast'
    assert measured['fast'].mask_shift == pytest.approx(0, abs=1e-5)
    assert measured['wrong masks'].mask_shift > choice.MAX_MASK_SHIFT
    assert measured['wrong masks'].score_shift < 1e-5
    assert 'is inaccurate' in measured['wrong masks'].problem
    assert 'is inaccurate' in measured['wrong categories'].problem


def test_depth_and_motion_count_as_masks_do(
    own_cache: Path, tiny_multitask: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {engine.name: engine for engine in (TorchEngine, Fast, WrongDepth, WrongMotion, NoDepth)}
    for module in (choice, engines):
        monkeypatch.setattr(module, 'ENGINES', MappingProxyType(table))
    engine, measured = choose(tiny_multitask)
    assert engine.name == 'fast'
    assert measured['fast'].depth_shift == pytest.approx(0, abs=1e-5)
    assert measured['wrong depth'].depth_shift == pytest.approx(0.02, abs=1e-4)
    assert measured['wrong depth'].pixel_shift < 1e-5
    assert measured['wrong motion'].pixel_shift > choice.MAX_PIXEL_SHIFT
    assert all('is inaccurate' in measured[name].problem for name in ('wrong depth', 'wrong motion', 'no depth'))


def test_it_is_remembered_and_measured_anew_when_something_changes(
    known: Path, tiny: Checkpoint, tiny_checkpoint_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    measured = choice.measure(tiny, device=CPU, precision='auto', threads=1)

    def counted(*_args: Any, **_kwargs: Any) -> Any:
        calls.append('')
        return measured

    monkeypatch.setattr(choice, 'measure', counted)
    _, first = choose(tiny)
    _, again = choose(load_checkpoint(tiny_checkpoint_path))
    assert list(map(str, again.values())) == list(map(str, first.values()))
    assert len(calls) == 1
    choose(tiny, precision='fp32')
    assert len(calls) == 2
    choose(tiny, threads=2)
    assert len(calls) == 3
    choose(dataclasses.replace(tiny, input=dataclasses.replace(tiny.input, size_hw=(128, 128))))
    assert len(calls) == 4
    monkeypatch.setattr(choice, '_version', lambda _package: '999')
    choose(tiny)
    assert len(calls) == 5


def test_a_damaged_memory_is_measured_anew(known: Path, tiny: Checkpoint) -> None:
    _, first = choose(tiny)
    [file] = known.glob('engines-*.json')
    file.write_text('{')
    engine, again = choose(tiny)
    assert engine.name == 'fast'
    assert set(again) == set(first)
    assert len(json.loads(file.read_text())) == len(first)


@pytest.mark.parametrize('content', ['', '{', '[1]', '[{"engine": "fast"}]', '[{"surprise": 1}]', '{"a": 1}', '5'])
def test_a_memory_that_is_no_table_of_candidates_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / 'engines.json').write_text(content)
    assert choice._read(tmp_path / 'engines.json') is None


def test_no_engine_is_an_error_that_says_why(known: Path, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (choice, engines):
        monkeypatch.setattr(module, 'ENGINES', MappingProxyType({'broken': Broken}))
    monkeypatch.setattr(choice, 'create_engine', lambda checkpoint, name, **given: (
        TorchEngine(checkpoint, **given) if name == 'torch' else Broken()
    ))  # fmt: skip
    with pytest.raises(ConfigError, match=r'none can run this checkpoint: broken fp32 cannot run it .*too old'):
        choose(tiny)


def test_the_probe_is_always_the_same_and_has_structure() -> None:
    assert torch.equal(probe_batch((128, 256)), probe_batch((128, 256)))
    assert 0.5 < float(probe_batch((128, 256)).std()) < 3
