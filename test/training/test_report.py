from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parsed_page import Parsed, decoded
from PIL import Image

from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.training import report
from sembox_ros.training.report import read_history, read_metrics, write_summary
from sembox_ros.training.report_curves import draw_curves, smooth

NAME = 'run <b>1</b> & "co"'
BEST = {
    'step': 40,
    'epoch': 2.0,
    'semantic': {'miou': 0.625, 'iou_per_class': {'road': 0.9, '<i>car': 0.35, 'train': None}, 'pixel_accuracy': 0.875},
    'boxes': {
        'ap': 0.25, 'ap50': 0.4511, 'ap75': 0.2, 'ap_small': None, 'ap_medium': 0.1234, 'ap_large': 0.5,
        'ap_per_class': {'<i>car': 0.25, 'person': None}, 'ap50_per_class': {'<i>car': 0.4511, 'person': None},
    },
}  # fmt: skip
LAST = {**BEST, 'step': 60, 'epoch': 3.0, 'semantic': {**BEST['semantic'], 'miou': 0.5}}  # type: ignore[dict-item]
METRICS = {
    'name': NAME, 'model': 'sembox_b0', 'parameters': 4_560_000, 'dataset': 'streets', 'images_train': 1200,
    'images_val': 30, 'epochs': 3.0, 'steps': 60, 'seconds': 3725.4, 'images_per_s': 8.125, 'best': BEST, 'last': LAST,
    'interrupted': False,
}  # fmt: skip


def train_line(step: int, **numbers: Any) -> dict[str, Any]:
    return {'kind': 'train', 'step': step, 'epoch': step / 20, 'lr': 1e-3, 'images_per_s': 7.5, **numbers}


def val_line(step: int, **numbers: Any) -> dict[str, Any]:
    return {'kind': 'val', 'step': step, 'epoch': step / 20, 'seconds': 3.0, **numbers}


HISTORY = [
    train_line(10, loss=4.0, loss_semantic=3.0),
    train_line(20, loss=2.0, loss_semantic=1.5, gradient_norm=3.1),
    val_line(20, miou=0.25, pixel_accuracy=0.5, ap=0.125, ap50=0.2),
    train_line(40, loss=1.0, loss_semantic=0.5),
    val_line(40, miou=0.625, pixel_accuracy=0.875, ap=0.25, ap50=0.4511),
    train_line(60, loss=0.5, loss_semantic=0.25),
    val_line(60, miou=0.5, pixel_accuracy=0.875, ap=0.25, ap50=0.4511),
]


def write_history(folder: Path, lines: list[dict[str, Any]]) -> None:
    (folder / 'history.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a finished run with two examples, one larger than is shown."""
    write_history(tmp_path, HISTORY)
    (tmp_path / 'metrics.json').write_text(json.dumps(METRICS))
    (tmp_path / 'config.yaml').write_text('name: </pre><script>alert(1)</script>\nepochs: 3\n')
    (tmp_path / 'examples').mkdir()
    wide = np.zeros((40, 3200, 3), np.uint8)
    wide[:, 1600:] = (200, 40, 40)
    Image.fromarray(wide).save(tmp_path / 'examples' / '00&1.png')
    Image.new('RGB', (300, 50), (10, 200, 30)).save(tmp_path / 'examples' / '01.png')
    return tmp_path


def test_the_page_of_a_finished_run(run: Path):
    path = write_summary(run)
    assert path == run / 'summary.html'
    page = Parsed(path)
    assert page.of('title') == page.of('h1') == NAME
    assert page.of('facts') == (
        'Model sembox_b0 with 4.6 million parameters, dataset streets (1,200 images, 30 for validation), '
        '3 epochs (60 steps), 1 h 2 min, 8.12 images/s.'
    )
    assert page.of('state') == 'finished'
    assert page.of('tiles') == (
        'mIoU 62.5 last 50.0 pixel accuracy 87.5 last 87.5 AP 25.0 last 25.0 AP50 45.1 last 45.1'
    )
    assert page.of('grades') == (
        'Percent, best validation: epoch 2, step 40. AP75 20.0, AP small -, AP medium 12.3, AP large 50.0.'
    )
    assert page.rows == [
        ['class', 'IoU', 'AP', 'AP50'],
        ['road', '90.0', '-', '-'],
        ['<i>car', '35.0', '25.0', '45.1'],
        ['train', '-', '-', '-'],
        ['person', '-', '-', '-'],
        ['mean', '62.5', '25.0', '45.1'],
    ]
    assert page.widths == ['width:90.0%', 'width:35.0%', 'width:25.0%', 'width:45.1%']
    assert page.of('pre') == 'name: </pre><script>alert(1)</script> epochs: 3'


def test_the_page_needs_nothing_but_itself(run: Path):
    page = Parsed(write_summary(run))
    text = (run / 'summary.html').read_text()
    assert all(source.startswith('data:image/') for source in page.sources)
    assert page.references == []
    assert not {'script', 'link', 'iframe'} & set(page.tags)
    assert 'url(' not in text
    assert '@import' not in text
    assert "default-src 'none'" in text


def test_pictures_are_scaled_jpeg_with_their_names_below(run: Path):
    page = Parsed(write_summary(run))
    curves, *examples = (decoded(source) for source in page.sources)
    assert [(e.format, e.size) for e in examples] == [('JPEG', (1600, 20)), ('JPEG', (300, 50))]
    assert examples[0].getpixel((1500, 10)) == pytest.approx((200, 40, 40), abs=6)
    assert examples[1].getpixel((100, 20)) == pytest.approx((10, 200, 30), abs=6)
    assert page.of('figcaption') == '00&1.png 01.png'
    assert curves.format == 'PNG'
    file = Image.open(run / 'curves.png')
    assert (np.asarray(file) == np.asarray(curves)).all()


def test_a_picture_that_cannot_be_read_is_named(run: Path):
    whole = (run / 'examples' / '01.png').read_bytes()
    (run / 'examples' / '02.png').write_bytes(whole[: len(whole) // 2])
    (run / 'examples' / '03.png').write_text('no picture')
    page = Parsed(write_summary(run))
    assert page.of('figcaption') == '00&1.png 01.png 02.png: cannot be read 03.png: cannot be read'
    assert len(page.sources) == 3


def test_a_picture_with_too_many_pixels_is_not_decoded(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr('sembox_ros.page.MAX_PICTURE_PIXELS', 300 * 50)
    assert Parsed(write_summary(run)).of('figcaption') == '00&1.png: cannot be read 01.png'


def test_pictures_end_where_the_page_would_become_too_large(run: Path):
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1600, 3), dtype=np.uint8)
    for index in range(2, 9):
        Image.fromarray(noise).save(run / 'examples' / f'{index:02d}.png', compress_level=0)
    path = write_summary(run)
    page = Parsed(path)
    shown = len(page.sources) - 1
    assert 3 <= shown < 9
    assert f'{9 - shown} more in the folder examples.' in page.texts
    assert path.stat().st_size < 5_000_000


def test_a_run_without_metrics_shows_its_history(run: Path):
    (run / 'metrics.json').unlink()
    page = Parsed(write_summary(run))
    assert page.of('h1') == run.name
    assert page.of('state') == 'unfinished: going on, or killed'
    assert page.of('facts') == '3 epochs (60 steps), 7.5 images/s.'
    assert page.of('tiles') == (
        'mIoU 62.5 last 50.0 pixel accuracy 87.5 last 87.5 AP 25.0 last 25.0 AP50 45.1 last 45.1'
    )
    assert page.of('grades') == 'Percent, best validation so far by mIoU + AP: epoch 2, step 40.'
    assert page.rows == []


def test_a_run_that_only_began(tmp_path: Path):
    write_history(tmp_path, [])
    page = Parsed(write_summary(tmp_path))
    assert page.of('facts') == 'Nothing is logged yet.'
    assert page.of('grades') == 'No validation yet.'
    assert page.of('tiles') == ''
    assert len(page.sources) == 1  # the curves, which say so too
    assert 'details' not in page.tags


@pytest.mark.parametrize('missing', ['semantic', 'boxes'])
def test_a_part_that_was_not_graded(run: Path, missing: str):
    grades = {**BEST, missing: None}
    (run / 'metrics.json').write_text(json.dumps({**METRICS, 'best': grades, 'last': grades}))
    page = Parsed(write_summary(run))
    assert page.rows[0] == ['class', *(['AP', 'AP50'] if missing == 'semantic' else ['IoU'])]
    assert page.rows[-1] == ['mean', *(['25.0', '45.1'] if missing == 'semantic' else ['62.5'])]
    graded = {'AP': '25.0', 'AP50': '45.1'} if missing == 'semantic' else {'mIoU': '62.5', 'pixel accuracy': '87.5'}
    assert page.of('tiles') == ' '.join(f'{title} {value} last {value}' for title, value in graded.items())


@pytest.mark.parametrize(
    ('changes', 'state'),
    [
        ({'interrupted': True}, 'interrupted'),
        ({'interrupted': True, 'steps': 40}, 'unfinished: going on, or killed'),  # resumed since
        ({'best': None, 'last': None}, 'finished'),
    ],
)
def test_states(run: Path, changes: dict[str, Any], state: str):
    (run / 'metrics.json').write_text(json.dumps({**METRICS, **changes}))
    assert Parsed(write_summary(run)).of('state') == state


def test_a_best_that_says_little(run: Path):
    (run / 'metrics.json').write_text('{"name": "\\ud800x", "best": {"semantic": {"miou": 0.5}}}')
    page = Parsed(write_summary(run))
    assert page.of('h1') == '?x'
    assert page.of('grades') == 'Percent, best validation.'
    assert page.of('tiles').startswith('mIoU 50.0 last 50.0')
    (run / 'metrics.json').write_text('{"best": null}')
    assert 'best validation so far by mIoU + AP: epoch 2' in Parsed(write_summary(run)).of('grades')


def test_metrics_with_only_a_name(run: Path):
    (run / 'metrics.json').write_text('{"name": "x", "parameters": "many", "seconds": NaN, "images_per_s": 1e999}')
    page = Parsed(write_summary(run))
    assert page.of('h1') == 'x'
    assert page.of('facts') == '3 epochs (60 steps), 7.5 images/s.'


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        ('{"best": ', 'not JSON'),
        ('[' * 100_000, 'not JSON'),
        ('[]', 'expected an object, got list'),
        ('{"best": 3}', 'best: expected an object or null, got int'),
        ('{"last": {"semantic": []}}', 'semantic: expected an object or null, got list'),
        ('{"best": {"boxes": {"ap_per_class": "x"}}}', 'ap_per_class: expected an object or null, got str'),
    ],
)
def test_damaged_metrics_are_refused_by_name(run: Path, text: str, says: str):
    (run / 'metrics.json').write_text(text)
    with pytest.raises(DatasetError) as error:
        write_summary(run)
    assert str(error.value).startswith(str(run / 'metrics.json'))
    assert says in str(error.value)
    assert 'delete it' in str(error.value)


def test_metrics_are_not_read_when_too_large(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(report, 'MAX_JSON_BYTES', 100)
    with pytest.raises(DatasetError, match='expected at most 100 bytes'):
        read_metrics(run / 'metrics.json')


def test_a_folder_that_is_no_run(tmp_path: Path):
    message = r'history\.jsonl, found none in .*; give the folder that training printed'
    with pytest.raises(ConfigError, match=message) as error:
        write_summary(tmp_path / 'absent')
    assert str(tmp_path / 'absent') in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_history_values_that_are_no_numbers(tmp_path: Path):
    path = tmp_path / 'history.jsonl'
    path.write_text(
        '{"kind": "val", "step": 1, "epoch": 0.5, "miou": null, "ap": NaN, "ap50": "x", "a": true, "b": 1e999}\n'
        f'{{"kind": "train", "step": 2, "epoch": 1, "loss": {"9" * 400}}}\n'
        '{"kind": "train", "step": null, "epoch": 1}\n{"kind": "train", "step": 3}\n'
        '{"kind": "other", "step": 4, "epoch": 1}\n[1]\n\n{"kind": [], "step": 1, "epoch": 1}\n' + '[' * 100_000 + '\n'
    )
    train, val = read_history(path)
    assert [{k: v for k, v in row.items() if not math.isnan(v)} for row in train] == [{'step': 2.0, 'epoch': 1.0}]
    assert [{k: v for k, v in row.items() if not math.isnan(v)} for row in val] == [{'step': 1.0, 'epoch': 0.5}]
    assert set(val[0]) == {'step', 'epoch', 'miou', 'ap', 'ap50', 'a', 'b'}
    page = Parsed(write_summary(tmp_path))
    assert page.of('tiles').startswith('mIoU - last -')


@given(cut=st.integers(0, 10_000))
def test_a_cut_history_keeps_its_whole_lines(tmp_path_factory: pytest.TempPathFactory, cut: int):
    lines = [json.dumps(line) for line in HISTORY]
    data = ('\n'.join(lines) + '\n').encode()
    cut %= len(data) + 1
    path = tmp_path_factory.mktemp('run') / 'history.jsonl'
    path.write_bytes(data[:cut])
    ends = np.cumsum([len(line) + 1 for line in lines]) - 1  # where the text of each line is complete
    whole = HISTORY[: int((ends <= cut).sum())]
    train, val = read_history(path)
    assert train == [{k: float(v) for k, v in r.items() if k != 'kind'} for r in whole if r['kind'] == 'train']
    assert val == [{k: float(v) for k, v in r.items() if k != 'kind'} for r in whole if r['kind'] == 'val']


@given(data=st.binary(max_size=200))
def test_a_history_of_anything_is_read(tmp_path_factory: pytest.TempPathFactory, data: bytes):
    path = tmp_path_factory.mktemp('run') / 'history.jsonl'
    path.write_bytes(data + b'\n{"kind": "val", "step": 7, "epoch": 1}\n')
    assert read_history(path)[1] == [{'step': 7.0, 'epoch': 1.0}]


def test_smoothing():
    values = np.array([np.nan, 4.0, 1.0, np.nan, 7.0])
    # Shares of one half: 4; (4/4 + 1/2) / (3/4); the same; (4/8 + 1/4 + 7/2) / (7/8)
    assert smooth(values, 3) == pytest.approx([np.nan, 4.0, 2.0, 2.0, 34 / 7], nan_ok=True)
    assert smooth(values[[1, 2, 4]], 1) == pytest.approx([4.0, 1.0, 7.0])
    assert smooth(np.full(50, 0.3), 20) == pytest.approx(np.full(50, 0.3))


def test_the_curves_show_the_history(tmp_path: Path):
    write_history(tmp_path, [*HISTORY, train_line(80, loss=0.0, loss_semantic=None)])
    losses, rate, scores = draw_curves(*read_history(tmp_path / 'history.jsonl'), best_step=40).axes
    raw, total, _, semantic = losses.get_lines()
    assert losses.get_yscale() == 'log'
    assert [text.get_text() for text in losses.get_legend().get_texts()] == ['total', 'semantic']
    assert raw.get_xdata() == pytest.approx([0.5, 1, 2, 3, 4])
    assert raw.get_ydata() == pytest.approx([4, 2, 1, 0.5, np.nan], nan_ok=True)  # a logarithm has no place for zero
    assert total.get_ydata()[:4] == pytest.approx([4, 2, 1, 0.5])
    assert semantic.get_ydata()[:4] == pytest.approx([3, 1.5, 0.5, 0.25])
    assert rate.get_lines()[0].get_ydata() == pytest.approx([1e-3] * 5)
    lines = {line.get_label(): line for line in scores.get_lines()}
    assert lines['mIoU'].get_ydata() == pytest.approx([25, 62.5, 50])
    assert lines['AP50'].get_ydata() == pytest.approx([20, 45.11, 45.11])
    assert lines['best, epoch 2'].get_xdata() == [2, 2]
    stars = [line for line in scores.get_lines() if line.get_marker() == '*']
    assert [(s.get_xdata()[0], s.get_ydata()[0]) for s in stars] == [(2, 62.5), (2, 25), (2, pytest.approx(45.11))]


def test_names_that_are_no_losses_are_not_drawn():
    row = {'step': 1.0, 'epoch': 1.0, 'loss': 1.0, 'loss_$x^': 1.0, 'lossless': 1.0}
    figure = draw_curves([row], [], math.nan)
    losses, rate, scores = figure.axes
    assert [text.get_text() for text in losses.get_legend().get_texts()] == ['total']
    assert [text.get_text() for text in rate.texts] == ['no learning rate logged yet']
    assert [text.get_text() for text in scores.texts] == ['no validation yet']


def test_drawing_leaves_pyplot_alone(run: Path):
    script = (
        'import sys; from pathlib import Path; from sembox_ros.training.report import write_summary; '
        f'write_summary(Path({str(run)!r})); print("matplotlib.pyplot" in sys.modules, "torch" in sys.modules)'
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, '-c', script], cwd=root, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ['False', 'False']
