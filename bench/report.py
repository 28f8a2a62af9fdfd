"""Tables of samples as Markdown, and everything as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from timing import Sample, speed_ratio, summarise


@dataclass
class Section:
    """One table: a row per candidate.

    Attributes:
        title: heading.
        about: sentences above the table: what is measured, what is unequal.
        measures: name of a measure in the samples -> its column's heading.
        references: candidates that the others are divided by, by `ratio_measure`.
        ratio_measure: the measure of those ratios.
        facts: candidate -> column -> what is known without timing; a column's name is its heading.
        samples: candidate -> one sample per round.
        notes: lines below the table, such as what could not be run and why.
    """

    title: str
    about: str
    measures: Mapping[str, str] = field(default_factory=lambda: {'ms': 'ms'})
    references: Sequence[str] = ()
    ratio_measure: str = 'ms'
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Rows of the table: what was measured in at least one round, then what has facts alone."""
        measured = [name for name, samples in self.samples.items() if samples]
        return measured + [name for name in self.facts if name not in self.samples]


def show(value: Any) -> str:
    """A cell: floats with three significant digits and no exponent where one can do without."""
    if value is None:
        return ''
    if isinstance(value, float):
        if value and not 1e-3 <= abs(value) < 1e6:
            return f'{value:.1e}'
        digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
        return f'{value:.{digits}f}'
    return str(value)


def render_table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [headings, ['---'] * len(headings), *([show(cell) for cell in row] for row in rows)]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def _cell(samples: Sequence[Sample], measure: str) -> str:
    values = [sample[measure] for sample in samples if measure in sample]
    if not values:
        return ''
    summary = summarise(values)
    spread = f' ({show(summary.p10)} to {show(summary.p90)})' if summary.rounds > 1 else ''
    return show(summary.median) + spread


def render_section(section: Section) -> str:
    """Heading, sentences, table and notes of one section."""
    columns = list(dict.fromkeys(column for facts in section.facts.values() for column in facts))
    references = [name for name in section.references if section.samples.get(name)]
    headings = ['', *section.measures.values(), *(f'speed / {name}' for name in references), *columns]
    rows = []
    for name in section.names:
        own = section.samples.get(name, [])
        row: list[Any] = [name, *(_cell(own, measure) for measure in section.measures)]
        row += [speed_ratio(section.samples[r], own, section.ratio_measure) for r in references]
        row += [section.facts.get(name, {}).get(column) for column in columns]
        rows.append(row)
    table = render_table(headings, rows) if rows else 'Nothing was measured.\n'
    notes = ''.join(f'- {note}\n' for note in section.notes)
    return f'## {section.title}\n\n{section.about}\n\n{table}' + (f'\n{notes}' if notes else '')


def describe_machine_in_words(machine: Mapping[str, Any]) -> str:
    """What `hardware.describe_machine` gives, as a list."""
    lines = []
    for name, value in machine.items():
        if isinstance(value, Mapping):
            value = ', '.join(f'{k} {v}' for k, v in value.items())
        elif isinstance(value, (list, tuple)):
            value = ', '.join(map(str, value))
        lines.append(f'- {name.replace("_", " ")}: {value or "none"}\n')
    return ''.join(lines)


def write_report(
    stem: Path, title: str, about: str, machine: Mapping[str, Any], sections: Sequence[Section], *, complete: bool
) -> str:
    """Write `<stem>.json` and `<stem>.md`; returns the Markdown.

    Args:
        stem: path without suffix; its folder is made.
        title: first heading.
        about: sentences that hold for all sections.
        machine: of `hardware.describe_machine`.
        sections: in order; those without a row say so.
        complete: False if the run was interrupted, which both files then say.
    """
    if not complete:
        about = f'**The run was interrupted; this is what there was by then.**\n\n{about}'
    parts = [f'# {title}\n\n{about}\n\n{describe_machine_in_words(machine)}', *map(render_section, sections)]
    text = '\n'.join(parts)
    record = {
        'title': title,
        'complete': complete,
        'machine': dict(machine),
        'sections': [dataclasses.asdict(section) for section in sections],
    }
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_name(f'{stem.name}.json').write_text(json.dumps(record, indent=1, default=str) + '\n')
    stem.with_name(f'{stem.name}.md').write_text(text)
    return text
