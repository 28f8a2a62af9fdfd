"""The parts of the benchmarks that do not depend on a clock: rounds, ratios, tables, work, growth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hardware import describe_machine
from node_part import growth_percent
from peers import consume, largest_difference, outputs_of
from report import Section, render_section, show, write_report
from roofline import Limits, Work, count_work, least_ms
from timing import measure_rounds, order_of_round, speed_ratio, summarise
from torch import nn


def test_every_round_has_every_candidate_once_in_an_order_of_its_own():
    names = list('abcdef')
    orders = [order_of_round(names, number) for number in range(10)]
    assert all(sorted(order) == names for order in orders)
    assert len({tuple(order) for order in orders}) > 5
    assert orders[3] == order_of_round(names, 3)


def test_rounds_skip_the_warmup_and_keep_samples_of_one_round_together():
    calls: list[str] = []

    def candidate(name: str) -> dict[str, float]:
        calls.append(name)
        return {'ms': float(len(calls))}

    samples: dict = {}
    measure_rounds({name: lambda name=name: candidate(name) for name in 'ab'}, samples, rounds=3, warmup=2)
    assert len(calls) == 10
    assert {len(values) for values in samples.values()} == {3}
    for number in range(3):
        assert {samples['a'][number]['ms'], samples['b'][number]['ms']} == {5.0 + 2 * number, 6.0 + 2 * number}


def test_an_interrupted_measurement_keeps_its_rounds():
    runs = iter(range(100))

    def candidate() -> dict[str, float]:
        if next(runs) == 5:
            raise KeyboardInterrupt
        return {'ms': 1.0}

    samples: dict = {}
    with pytest.raises(KeyboardInterrupt):
        measure_rounds({'a': candidate, 'b': candidate}, samples, rounds=10, warmup=0)
    assert sorted(len(values) for values in samples.values()) == [2, 3]


def test_summary_and_ratio():
    assert summarise([3.0, 1.0, 2.0])[0] == 2.0
    assert summarise([float(i) for i in range(11)]) == (5.0, 1.0, 9.0, 11)
    with pytest.raises(ValueError, match='at least one'):
        summarise([])
    # A round in which the whole machine was ten times slower changes nothing.
    reference = [{'ms': 4.0}, {'ms': 40.0}, {'ms': 4.4}]
    own = [{'ms': 2.0}, {'ms': 20.0}, {'ms': 2.0}]
    assert speed_ratio(reference, own) == 2.0
    assert speed_ratio(reference, []) is None


@pytest.mark.parametrize(
    ('value', 'text'),
    [(123.4, '123'), (12.34, '12.3'), (1.234, '1.23'), (0.1234, '0.123'), (1e-5, '1.0e-05'), (0.0, '0.000'), (None, ''),
     (7, '7'), ('yes', 'yes')],
)  # fmt: skip
def test_cells(value: object, text: str):
    assert show(value) == text


def test_tables_have_ratios_facts_and_notes():
    section = Section(title='T', about='What.', references=('a', 'gone'), notes=['b was odd'])
    section.samples.update(a=[{'ms': 10.0}, {'ms': 12.0}], b=[{'ms': 5.0}, {'ms': 4.0}], c=[])
    section.facts.update(a={'G': 1.5}, b={'G': 2.5}, d={'G': 3.5})
    assert render_section(section).splitlines() == [
        '## T', '', 'What.', '',
        '|  | ms | speed / a | G |', '| --- | --- | --- | --- |',
        '| a | 11.0 (10.2 to 11.8) | 1.00 | 1.50 |', '| b | 4.50 (4.10 to 4.90) | 2.50 | 2.50 |', '| d |  |  | 3.50 |',
        '', '- b was odd',
    ]  # fmt: skip
    assert 'Nothing was measured' in render_section(Section(title='T', about='What.'))


def test_a_report_has_no_path_and_says_that_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv('LD_PRELOAD', '/some/where/libfast.so.2')
    section = Section(title='T', about='What.', samples={'a': [{'ms': 1.0}]})
    text = write_report(tmp_path / 'x.y', 'Title', 'About.', describe_machine(2), [section], complete=False)
    assert 'interrupted' in text
    assert 'libfast.so.2' in text
    assert '/some' not in text
    assert (tmp_path / 'x.y.md').read_text() == text
    record = json.loads((tmp_path / 'x.y.json').read_text())
    assert record['complete'] is False
    assert record['sections'][0]['samples'] == {'a': [{'ms': 1.0}]}


def test_the_work_of_a_network_is_counted_by_hand():
    shared = nn.Conv2d(4, 8, 3, padding=1, bias=False)
    network = nn.Sequential(shared, nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1), shared, nn.Flatten(), nn.Linear(8 * 36, 5))
    images = torch.zeros(1, 4, 6, 6)
    work = count_work(lambda: network.eval()(images))
    pixels = 36
    assert work.multiply_adds == 2 * pixels * 8 * 4 * 9 + pixels * 4 * 8 + 8 * pixels * 5
    assert work.weights == 8 * 4 * 9 + (4 * 8 + 4) + (8 * pixels * 5 + 5)  # the shared convolution is read once
    assert work.activations == 3 * pixels * 12 + 8 * pixels + 5
    with torch.inference_mode():
        assert count_work(lambda: network.eval()(images)) == work
    twice = work + work
    assert twice == Work(2 * work.multiply_adds, 2 * work.weights, 2 * work.activations)
    limits = Limits({'fp32': 2e9, 'bf16': 4e9}, bandwidth=1e6, how={})
    assert least_ms(Work(10**6, 250, 750), limits, 'fp32') == pytest.approx((1.0, 4.0))
    assert least_ms(Work(10**6, 250, 750), limits, 'bf16') == pytest.approx((0.5, 2.0))


def test_differences_and_consumption_look_at_every_output():
    result = {'out': torch.zeros(1, 2, 3), 'boxes': [torch.ones(4), torch.zeros(0, 4)]}
    assert [tuple(t.shape) for t in outputs_of(result)] == [(1, 2, 3), (4,), (0, 4)]
    consume(result)
    other = {'out': torch.zeros(1, 2, 3), 'boxes': [torch.tensor([1.0, 1.0, 1.25, 1.0]), torch.zeros(0, 4)]}
    assert largest_difference(result, other) == 0.25
    assert largest_difference(result, {'out': torch.zeros(1, 2, 3)}) is None
    assert largest_difference([torch.zeros(3)], [torch.zeros(4)]) is None


def test_growth_leaves_the_first_minute_out():
    times = [float(t) for t in range(0, 300, 5)]
    sizes = [10.0 * t if t < 60 else 1000.0 + (100.0 if t > 200 else 0.0) for t in times]
    assert growth_percent(times, sizes) == pytest.approx(10.0)
    with pytest.raises(ValueError, match='one minute'):
        growth_percent([0.0, 30.0], [1.0, 1.0])
