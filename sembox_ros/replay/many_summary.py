"""What several replayed bags come to: summary.json, summary.html and a table for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sembox_ros import __version__
from sembox_ros.errors import InputError
from sembox_ros.evaluation.grading import SceneGrade
from sembox_ros.evaluation.scores import GradeScores
from sembox_ros.page import write_page
from sembox_ros.replay.many import JobResult
from sembox_ros.replay.many_page import SCORES, TITLES, numbers, pick_scores, render_summary, show_scores, state_words
from sembox_ros.replay.report import PAGE_NAME, write_json
from sembox_ros.replay.report_schema import main_latency, printable

SCHEMA, VERSION = 'sembox_ros/replay_summary', 1
GRADE_NAME = 'grade.npz'


def summarize(results: Sequence[JobResult], out: Path) -> dict[str, Any]:
    """Write summary.json and summary.html to `out`.

    Args:
        results: of jobs that `many.plan_jobs` planned for `out`.
        out: folder of all results.

    Returns:
        What summary.json holds. The scores of all bags together come from the grades that the bags left (grade.npz),
        exactly as if they were one bag; a bag whose grade cannot be added to the others' is named in `notes`.

    Raises:
        DatasetError: a file cannot be written.
    """
    rows = [_row(result) for result in results]
    grade, graded, notes = _merge_grades(results)
    scores = GradeScores() if grade is None else grade.compute()
    summary = {
        'schema': SCHEMA,
        'version': VERSION,
        'created': datetime.now(timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ'),
        'sembox_ros': __version__,
        'bags': rows,
        'overall': {
            'states': dict(Counter(row['state'] for row in rows)),
            'frames': sum(row['frames'] or 0 for row in rows),
            'seconds': sum(row['seconds'] or 0.0 for row in rows),
            'graded': graded,
            **scores.to_dict(),
            'notes': notes,
        },
    }
    write_json(summary, out / 'summary.json')
    write_page(out / 'summary.html', render_summary(summary))
    return summary


def _row(result: JobResult) -> dict[str, Any]:
    """The facts of a bag; None for what is not known."""
    row: dict[str, Any] = {
        'name': printable(result.job.name),
        'bag': printable(str(result.job.bag)),
        'state': result.state,
        'error': None if result.error is None else printable(result.error),
        'retries': result.retries,
        'page': f'{result.job.name}/{PAGE_NAME}' if (result.job.out / PAGE_NAME).is_file() else None,
        **dict.fromkeys(('partial', 'frames', 'seconds', 'frames_per_s', 'latency_p50_ms', *SCORES)),
    }
    if (report := result.report) is not None:
        row |= {
            'partial': report['partial'],
            'frames': report['frames']['processed'],
            'seconds': report['speed']['seconds'],
            'frames_per_s': report['speed']['frames_per_s'],
            'latency_p50_ms': main_latency(report)[1].get('p50'),
            **pick_scores(report['accuracy'] or {}),
        }
    return row


def _merge_grades(results: Sequence[JobResult]) -> tuple[SceneGrade | None, int, list[str]]:
    """The grade of all bags together, of how many bags it is, and why others are not in it."""
    total: SceneGrade | None = None
    graded, notes = 0, []
    for result in results:
        if result.report is None or result.report['accuracy'] is None:
            continue
        try:
            # Bags may hold images of one stamp: the prefix keeps their names apart.
            grade = SceneGrade.load(result.job.out / GRADE_NAME, prefix=f'{result.job.name}/')
            if total is None:
                total = grade
            else:
                total.merge(grade)
            graded += 1
        except InputError as error:
            notes.append(printable(f'{result.job.name} is not in the scores of all bags together: {error}'))
    return total, graded, notes


def summary_table(summary: Mapping[str, Any]) -> str:
    """A line for each bag and one for all, aligned, without a line feed at the end; '-' for what is not known."""
    overall = summary['overall']
    titles = ('bag', *TITLES, 'state')
    lines = [titles, *((row['name'], *numbers(row), state_words(row)) for row in summary['bags'])]
    scores = show_scores(pick_scores(overall))
    states = ', '.join(f'{count} {state}' for state, count in overall['states'].items())
    lines.append(('all', f'{overall["frames"]:,}', *scores, '', '', states))
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles) - 1)]
    aligned = [
        f'{line[0]:<{widths[0]}}  '
        + '  '.join(f'{cell:>{width}}' for cell, width in zip(line[1:-1], widths[1:], strict=True))
        + f'  {line[-1]}'
        for line in lines
    ]
    return '\n'.join([*aligned, *overall['notes']])
