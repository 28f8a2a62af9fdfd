"""A report in a few lines, for terminals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sembox_ros.evaluation.scores import sizes_line
from sembox_ros.page import fixed, percent
from sembox_ros.replay.report_schema import main_latency

LISTED = 10  # classes
LEAST_SHARE = 0.001  # of the pixels


def render_text(report: Mapping[str, Any]) -> str:
    """The report in a few lines: frames, speed, scores, steadiness, and what was left out."""
    frames, network = report['frames'], report['network']
    lines = []
    if report['partial'] is not None:
        lines.append(f'PARTIAL   {report["partial"]}')
    if not network['trained']:
        lines.append('UNTRAINED weights: the results say nothing')
    skipped = sum(frames['skipped'].values())
    lost = f', {frames["lost"]} lost in damaged parts of the bag' if frames['lost'] else ''
    left_out = f', {skipped} skipped' if skipped else ''
    lines.append(f'frames    {frames["processed"]} of {frames["in_bag"]}{left_out}{lost}')
    lines += [f'          {count} x {reason}' for reason, count in list(frames['skipped'].items())[:5]]
    stamps = [f'{count} {name}' for name, count in frames['stamps'].items() if count]
    if stamps:
        lines.append(f'stamps    {", ".join(stamps)}')
    engine = f'{network["model"]} on {network["device"]} by {network["engine"]} {network["precision"]}'
    lines.append(f'speed     {report["speed"]["frames_per_s"]:.1f} frames/s, {engine}')
    name, latency = main_latency(report)
    if latency:
        values = ', '.join(f'{p} {latency[p]:.1f}' for p in ('p50', 'p95', 'p99') if latency[p] is not None)
        lines.append(f'latency   {values} ms ({name})')
    lines += _online_lines(report['online']) + _accuracy_lines(report['accuracy'])
    lines += _stability_lines(report['stability'])
    if report['outputs_sha256'] is not None:
        lines.append(f'outputs   sha256 {report["outputs_sha256"][:16]}')
    return '\n'.join(lines)


def _online_lines(online: Mapping[str, Any] | None) -> list[str]:
    if online is None:
        return []
    counts = ', '.join(f'{name} {count}' for name, count in online['counts'].items() if count)
    memory = '' if online['memory_mib_max'] is None else f', {online["memory_mib_max"]:.0f} MiB'
    lines = [f'node      played {online["played"]}, answered {online["answered"]}; {counts}{memory}']
    stages = [
        f'{name} {"/".join(f"{ms[p]:.1f}" for p in ("p50", "p95", "p99"))}' for name, ms in online['stages_ms'].items()
    ]
    return lines + ([f'          p50/p95/p99 in ms: {", ".join(stages)}'] if stages else [])


def _accuracy_lines(accuracy: Mapping[str, Any] | None) -> list[str]:
    if accuracy is None:
        return []
    scores = []
    if accuracy['semantic'] is not None:
        scores.append(f'mIoU {percent(accuracy["semantic"]["miou"])}')
    if accuracy['boxes'] is not None:
        scores += [f'{title} {percent(accuracy["boxes"][key])}' for title, key in (('AP', 'ap'), ('AP50', 'ap50'))]
    if (panoptic := accuracy['panoptic']) is not None:
        scores.append(f'PQ {percent(panoptic["pq"])}')
    lines = [f'accuracy  {", ".join(scores)} (percent) against {accuracy["truth"]}'] if scores else []
    if accuracy['boxes'] is not None:
        lines.append(f'          {sizes_line(accuracy["boxes"])}')
    if panoptic is not None:
        parts = {'things': '_things', 'stuff': '_stuff', 'all': ''}
        values = (
            f'{name} {"/".join(percent(panoptic[f"{quality}{part}"]) for quality in ("pq", "sq", "rq"))}'
            for name, part in parts.items()
        )
        lines.append(f'          PQ/SQ/RQ: {", ".join(values)}')
    maps = []
    if (depth := accuracy['depth']) is not None:
        maps.append(f'depth abs-rel {fixed(depth["abs_rel"], 3)}, RMSE {fixed(depth["rmse_m"], 2)} m')
    if (motion := accuracy['motion']) is not None:
        maps.append(f'motion mIoU {percent(motion["motion_miou"])}')
    if maps:
        lines.append(f'{"" if lines else "accuracy":<10}{"; ".join(maps)}')
    return lines + [f'          {note}' for note in accuracy['notes']]


def _stability_lines(stability: Mapping[str, Any] | None) -> list[str]:
    if stability is None:
        return []
    titles = {
        'mask_agreement': 'masks agree with the frame before',
        'mask_flicker': 'pixels flicker',
        'box_flicker': 'boxes flicker',
    }
    values = [f'{title} {percent(stability[name])}' for name, title in titles.items() if stability[name] is not None]
    lines = [f'steadiness {", ".join(values)} (percent)'] if values else []
    shares = [f'{name} {percent(share)}' for name, share in _largest(stability['class_share']) if share >= LEAST_SHARE]
    if shares:
        more = f' and {len(shares) - LISTED} more' if len(shares) > LISTED else ''
        lines.append(f'masks     {", ".join(shares[:LISTED])}{more} (percent)')
    if not stability['boxes_per_frame']:
        return lines  # of a network that finds none
    boxes = [f'{name} {mean:.1f}' for name, mean in _largest(stability['boxes_per_frame'])[:LISTED]]
    return [*lines, f'boxes     {", ".join(boxes) or "none"} (per frame)']


def _largest(values: Mapping[str, float | None]) -> list[tuple[str, float]]:
    """The names with something, the largest first."""
    return sorted(((name, value) for name, value in values.items() if value), key=lambda item: -item[1])
