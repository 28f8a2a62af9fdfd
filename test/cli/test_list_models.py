from __future__ import annotations

import json

import pytest

from sembox_ros.cli import main
from sembox_ros.cli.list_models import choose_rows
from sembox_ros.models.profile import profile_model
from sembox_ros.models.published import PUBLISHED
from sembox_ros.models.zoo import MODELS


def listed(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(['list-models', *args]) == 0
    return capsys.readouterr().out


def test_every_model_has_a_row_and_every_result_too() -> None:
    rows = list(choose_rows('', None))
    assert list(dict.fromkeys(row.config.name for row in rows)) == list(MODELS)
    assert sorted(r.published.model for r in rows if r.published) == sorted(r.model for r in PUBLISHED)
    for row in rows:
        entry = MODELS[row.config.name]
        if row.published is None:
            assert (row.config, row.size_hw) == (entry.config, entry.input.size_hw)
        else:
            assert (row.config.semantic_classes, row.size_hw) == (row.published.classes, row.published.size_hw)


def test_one_size_shows_what_is_published_for_it() -> None:
    rows = list(choose_rows('mobilenetv2_unet_lite', (512, 512)))
    assert [row.published.dataset for row in rows] == ['ADE20K-32', 'COCO-21']
    (other,) = choose_rows('mobilenetv2_unet_lite', (256, 512))
    assert (other.size_hw, other.published, other.config.semantic_classes) == ((256, 512), None, 19)


def test_the_filter_finds_names_encoders_and_decoders() -> None:
    def names(text: str) -> list[str]:
        return list(dict.fromkeys(row.config.name for row in choose_rows(text, None)))

    assert names('UNet_Lite') == ['mobilenetv2_unet_lite']
    assert names('efficientnet-b7') == ['sembox_b7']
    assert 'mobilenetv2_s16_multitask' in names('deeplabv3plus')


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    lines = listed(capsys, '--filter', 'mobilenetv2_unet_lite').splitlines()
    title, first, *others = [line.rstrip() for line in lines]
    for word in ('mobilenetv2_unet_lite', 'mobilenetv2 ', 'unet_lite', '384x768', '2.20', '68.94, QAT 68.18'):
        assert word in first
    # Aligned: every column of a line begins, or for numbers ends, where its title does.
    for word, name in (('384x768', 'size'), ('Cityscapes', 'dataset'), ('edgeailite', 'source')):
        assert first.index(word) == title.index(name)
    assert title.index('published') + len('published') == first.index('68.94') - 2
    assert [line.split()[0] for line in others[:2]] == ['512x512', '512x512']  # the name is not repeated
    assert others[3].startswith('edgeailite: TI edgeailite, github.com/')


def test_a_model_without_results(capsys: pytest.CaptureFixture[str]) -> None:
    words = listed(capsys, '--filter', 'sembox_b0', '--size', '128x256').splitlines()[1].split()
    assert words[:5] == ['sembox_b0', 'efficientnet-b0', 'BiFPN', '128x256', '19']
    assert words[-4:] == ['-'] * 4


def test_json_has_what_was_counted_and_what_is_published(capsys: pytest.CaptureFixture[str]) -> None:
    first, *_ = json.loads(listed(capsys, '--filter', 'fd_mobilenetv2', '--json'))
    parts = profile_model(MODELS['fd_mobilenetv2_fpn_lite'].config, (768, 1536))
    assert first['multiply_adds'] == sum(part.multiply_adds for part in parts)
    assert first['parameters'] == sum(part.parameters for part in parts)
    assert (first['size_hw'], first['classes'], first['tasks']) == ([768, 1536], 19, ['semantic'])
    assert (first['published']['giga_macs'], first['published']['miou']) == (3.96, 71.28)
    assert first['published']['dice'] is None


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--filter', 'resx'], "filter: expected a part of a name, encoder or decoder, none has 'resx'"),
        (['--size', '512'], "size: expected HEIGHTxWIDTH such as 512x1024, got '512'"),
        (['--filter', 'unet_lite', '--size', '250x512'], 'divisible by 128, got 250x512'),
    ],
)
def test_refusals(capsys: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    assert main(['list-models', *args]) == 1
    assert message in capsys.readouterr().err
