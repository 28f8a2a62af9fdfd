"""What every engine must do. A test module subclasses `EngineContract` and provides `name`."""

from __future__ import annotations

import builtins
import importlib.util
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from sembox_ros.errors import ConfigError, InputError
from sembox_ros.inference.choice import probe_batch
from sembox_ros.inference.engines import Engine, create_engine
from sembox_ros.models.checkpoint import Checkpoint
from sembox_ros.models.folding import fold
from sembox_ros.models.sembox import NetworkOutput, output_fields

CPU = torch.device('cpu')


def pictures(count: int, size_hw: tuple[int, int], channels: int = 3) -> Tensor:
    """Different pictures, (B, C, H, W)."""
    batch = probe_batch(size_hw, channels)
    return torch.cat([batch.roll(17 * index, dims=3) for index in range(count)])


def copied(output: NetworkOutput) -> list[Tensor]:
    return [part.float().clone() for part in output if part is not None]


@torch.inference_mode()
def expected(checkpoint: Checkpoint, batch: Tensor) -> list[Tensor]:
    return copied(fold(checkpoint.model)(batch))


@torch.inference_mode()
def run(engine: Engine, batch: Tensor) -> list[Tensor]:
    return copied(engine(batch.to(engine.device, engine.dtype)))


class EngineContract:
    """Tests of one engine on the CPU."""

    name: ClassVar[str]
    library: ClassVar[str | None] = None

    @pytest.fixture(scope='class')
    @classmethod
    def engine(cls, tiny: Checkpoint) -> Engine:
        return create_engine(tiny, cls.name, device=CPU, precision='fp32', threads=1)

    def test_says_what_it_is(self, engine: Engine) -> None:
        assert (engine.name, engine.precision, engine.device, engine.dtype) == (self.name, 'fp32', CPU, torch.float32)

    @pytest.mark.parametrize('count', [1, 3])
    @pytest.mark.parametrize('size_hw', [(128, 256), (256, 128), (128, 128)])
    def test_equals_the_folded_network(
        self, engine: Engine, tiny: Checkpoint, count: int, size_hw: tuple[int, int]
    ) -> None:
        batch = pictures(count, size_hw)
        for result, wanted in zip(run(engine, batch), expected(tiny, batch), strict=True):
            assert wanted.std() > 1e-3  # otherwise a constant would do
            torch.testing.assert_close(result, wanted, atol=1e-3, rtol=0)

    def test_a_call_does_not_remember_the_one_before(self, engine: Engine, tiny: Checkpoint) -> None:
        first, second = pictures(1, (128, 256)), -pictures(1, (128, 256))
        run(engine, first)
        for result, wanted in zip(run(engine, second), expected(tiny, second), strict=True):
            torch.testing.assert_close(result, wanted, atol=1e-3, rtol=0)

    def test_a_batch_laid_out_channels_last_is_the_same(self, engine: Engine) -> None:
        batch = pictures(1, (128, 256))
        for one, other in zip(
            run(engine, batch), run(engine, batch.to(memory_format=torch.channels_last)), strict=True
        ):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=0)

    def test_wrong_shape_is_refused(self, engine: Engine) -> None:
        with pytest.raises(InputError):
            run(engine, torch.zeros(1, 3, 100, 100))

    @pytest.mark.parametrize('kind', [pytest.param('detector', marks=pytest.mark.slow), 'tiny_solo', 'tiny_multitask'])
    def test_other_networks_run(self, request: pytest.FixtureRequest, kind: str) -> None:
        checkpoint: Checkpoint = request.getfixturevalue(kind)
        engine = create_engine(checkpoint, self.name, device=CPU, precision='auto', threads=1)
        for count, size_hw in ((1, (128, 128)), (2, (128, 256))):
            batch = pictures(count, size_hw, checkpoint.config.input_channels)
            with torch.inference_mode():
                output = engine(batch)
            given = tuple(name for name, part in output._asdict().items() if part is not None)
            assert given == output_fields(checkpoint.config)
            for result, wanted in zip(run(engine, batch), expected(checkpoint, batch), strict=True):
                assert wanted.std() > 1e-3
                torch.testing.assert_close(result, wanted, atol=1e-3, rtol=0)

    def test_every_precision_that_it_offers_is_close(self, tiny: Checkpoint, engine: Engine) -> None:
        offered = type(engine).precisions(CPU)  # type: ignore[attr-defined]
        assert offered[0] == 'fp32'
        batch = pictures(1, (128, 256))
        for precision in offered[1:]:
            half = create_engine(tiny, self.name, device=CPU, precision=precision, threads=1)
            assert half.precision == precision
            for result, wanted in zip(run(half, batch), expected(tiny, batch), strict=True):
                together = torch.stack((result.flatten(), wanted.flatten()))
                assert float(torch.corrcoef(together)[0, 1]) > 0.9, precision

    def test_unknown_precision_is_refused(self, tiny: Checkpoint) -> None:
        with pytest.raises(ConfigError, match=r"precision: .*auto.*fp32.*got 'int4'"):
            create_engine(tiny, self.name, device=CPU, precision='int4', threads=1)

    def test_without_its_library_it_offers_nothing_and_says_how_to_get_it(
        self, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if self.library is None:
            pytest.skip('PyTorch is always there')
        find, load = importlib.util.find_spec, builtins.__import__

        def find_other(name: str, *rest: Any) -> Any:
            return None if name == self.library else find(name, *rest)

        def load_other(name: str, *rest: Any, **named: Any) -> Any:
            if name == self.library:
                raise ImportError(name)
            return load(name, *rest, **named)

        monkeypatch.setattr(importlib.util, 'find_spec', find_other)
        monkeypatch.setattr(builtins, '__import__', load_other)
        with pytest.raises(ConfigError, match=f'not installed.*pip install {self.library}'):
            create_engine(tiny, self.name, device=CPU, precision='auto', threads=1)
