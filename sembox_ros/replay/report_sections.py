"""What report.html shows of a report: headline numbers and chapters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from sembox_ros.page import ClassRow, Picture, Tile, duration, embed_picture, fixed, percent, percent_cell, score_table
from sembox_ros.replay import report_plots as plots
from sembox_ros.replay.plot_style import Plot, to_plot
from sembox_ros.replay.report_page import Badge, ClassTable, NumberTable, Page, Section
from sembox_ros.replay.report_schema import is_inside, main_latency

PICTURES_BYTES = 8_000_000  # of all worst frames together, as text
SIZES = {'ap_small': 'below 32 x 32 px', 'ap_medium': 'up to 96 x 96 px', 'ap_large': 'larger'}
QUALITIES = ('pq', 'sq', 'rq')  # panoptic, segmentation, recognition
STABILITY = {
    'mask_agreement': 'mask agreement', 'mask_flicker': 'mask flicker', 'box_flicker': 'box flicker',
    'box_gaps': 'box gaps',
}  # fmt: skip
STAMPS = {
    'zero': 'a stamp of zero',
    'duplicate': 'the stamp of another frame',
    'backwards': 'an earlier stamp than the frame before',
}


def build_page(report: Mapping[str, Any], folder: Path) -> Page:
    """What the page of a checked report shows."""
    sections = (
        _latency(report), _timeline(report), _classes(report), _panoptic(report), _boxes(report), _confusion(report),
        _maps(report), _stability(report), _worst(report, folder), _online(report), _left_out(report),
        _settings(report),
    )  # fmt: skip
    return Page(
        title=report['name'],
        facts=_facts(report),
        badges=_badges(report),
        tiles=_tiles(report),
        sections=[section for section in sections if not section.is_empty],
    )


def as_plots(figures: Iterable[tuple[Figure | None, str]]) -> list[Plot]:
    """The figures that have something to show, with what they show in words."""
    return [to_plot(figure, alt) for figure, alt in figures if figure is not None]


def milliseconds(value: float | None) -> str:
    """Three digits, '-' for None."""
    return '-' if value is None else f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def _count(number: int, what: str) -> str:
    return f'{number:,} {what}{"" if number == 1 else "s"}'


def _facts(report: Mapping[str, Any]) -> str:
    """Bag, network and speed in a sentence."""
    bag, network, frames, speed = (report[name] for name in ('bag', 'network', 'frames', 'speed'))
    cameras = len(bag['cameras'])
    size = f'{duration(max(0.0, bag["duration_s"]))}, {frames["in_bag"]:,} frames' + (
        f', {cameras} cameras' if cameras > 1 else ''
    )
    checkpoint = network['checkpoint']
    name = network['model'] if checkpoint == 'bundled' else f'{checkpoint} ({network["model"]})'
    runs = f'{network["engine"]} {network["precision"]}, batch {network["batch"]}'
    how = 'played into the node' if report['online'] else 'replayed'
    return (
        f'{bag["name"]} ({size}), {how}: {name} on {network["device"]} by {runs}; {frames["processed"]:,} frames in '
        f'{duration(speed["seconds"])}, {speed["frames_per_s"]:.3g} frames/s.'
    )


def _badges(report: Mapping[str, Any]) -> list[Badge]:
    badges = [Badge(report['mode'])]
    if report['accuracy']:
        badges.append(Badge(f'ground truth: {report["accuracy"]["truth"]}'))
    if not report['network']['trained']:
        badges.append(Badge('UNTRAINED weights: the results mean nothing', 'alarm'))
    if report['partial'] is not None:
        badges.append(Badge(f'PARTIAL: {report["partial"] or "not the whole bag"}', 'alarm'))
    return badges


def _tiles(report: Mapping[str, Any]) -> list[Tile]:
    """Quality as far as it is known, then speed, then what was lost."""
    accuracy, stability, frames = report['accuracy'] or {}, report['stability'] or {}, report['frames']
    tiles = []
    if (semantic := accuracy.get('semantic')) is not None:
        tiles.append(Tile('mIoU', percent(semantic['miou']), f'% over {accuracy["masks"]:,} masks'))
    if (boxes := accuracy.get('boxes')) is not None:
        tiles.append(Tile('AP', percent(boxes['ap']), f'% over {accuracy["images"]:,} images'))
        tiles.append(Tile('AP50', percent(boxes['ap50']), '% at IoU 0.5'))
    if (panoptic := accuracy.get('panoptic')) is not None:
        tiles.append(Tile('PQ', percent(panoptic['pq']), f'% over {accuracy["scenes"] or 0:,} scenes'))
    if (depth := accuracy.get('depth')) is not None:
        tiles.append(Tile('depth abs-rel', fixed(depth['abs_rel'], 3), f'over {accuracy["depths"] or 0:,} depth maps'))
    if (motion := accuracy.get('motion')) is not None:
        note = f'% over {accuracy["motions"] or 0:,} masks'
        tiles.append(Tile('motion mIoU', percent(motion['motion_miou']), note))
    if not tiles:
        known = [name for name in STABILITY if stability.get(name) is not None][:3]
        tiles += [Tile(STABILITY[name], percent(stability[name]), '%') for name in known]
    stage, latency = main_latency(report)
    if latency.get('p50') is not None:
        note = f'ms, {stage.replace("_", " ")}; p99 {milliseconds(latency["p99"])}'
        tiles.append(Tile('latency p50', milliseconds(latency['p50']), note))
    tiles.append(Tile('speed', f'{report["speed"]["frames_per_s"]:.3g}', 'frames per second'))
    if (online := report['online']) is not None:
        tiles.append(Tile('dropped', f'{online["counts"]["dropped"]:,}', f'of {online["played"]:,} frames'))
    elif skipped := sum(frames['skipped'].values()) + frames['lost']:
        tiles.append(Tile('skipped', f'{skipped:,}', f'of {frames["in_bag"]:,} frames'))
    return tiles


def _latency(report: Mapping[str, Any]) -> Section:
    stage, latency = main_latency(report)
    online = report['online']
    stages: dict[str, Any] = report['speed']['latency_ms']
    if online is not None:
        whole = {'end to end': online['end_to_end_ms'], 'age': online['age_ms']}
        stages = {**online['stages_ms'], **{name: values for name, values in whole.items() if values is not None}}
    columns = ('p50', 'p95', 'p99', 'mean', 'max')
    rows = [
        (name.replace('_', ' '), *(milliseconds(values.get(column)) for column in columns))
        for name, values in stages.items()
        if values['p50'] is not None
    ]
    text = 'Milliseconds per frame.'
    if online is not None:
        text += (
            ' End to end is from publishing an image to receiving its answer; age is how old the picture was by then, '
            'counted from its stamp.'
        )
    figures = (
        (plots.draw_latency(report['speed']['histogram'], latency), f'Latency: {stage.replace("_", " ")}'),
        (plots.draw_stages(stages), 'Stages: p50, p95 and p99'),
    )
    tables = [NumberTable(('stage', *columns), rows, wide=True)] if rows else []
    return Section('Latency', text, plots=as_plots(figures), tables=tables)


def _timeline(report: Mapping[str, Any]) -> Section:
    timeline = report['timeline']
    word = 'skipped' if report['online'] is None else 'dropped'
    text = f'Each point is {timeline["bin_s"]:.3g} s of the bag; where frames were {word}, the background is red.'
    figure = plots.draw_timeline(timeline, word)
    return Section('Timeline', text, plots=as_plots([(figure, 'Frames, latency and quality over time')]))


def _classes(report: Mapping[str, Any]) -> Section:
    accuracy = report['accuracy'] or {}
    semantic, boxes = accuracy.get('semantic'), accuracy.get('boxes')
    columns, rows, means = score_table(semantic, boxes, accuracy.get('panoptic'))
    colors = plots.class_colors(report['labels'])
    figure = plots.draw_class_iou(semantic['iou_per_class'], semantic['miou'], colors) if semantic else None
    return Section(
        'Classes',
        "Percent; '-' where there was nothing to measure.",
        plots=as_plots([(figure, 'IoU by class')]),
        classes=ClassTable(columns, rows, means) if rows else None,
    )


def _panoptic(report: Mapping[str, Any]) -> Section:
    scores = (report['accuracy'] or {}).get('panoptic')
    if scores is None:
        return Section('Panoptic')
    classes = [
        ClassRow(name, [percent_cell(scores[f'{quality}_per_class'].get(name)) for quality in QUALITIES])
        for name, value in scores['pq_per_class'].items()
        if value is not None
    ]
    means = [
        (name, *(percent(scores[f'{quality}{part}']) for quality in QUALITIES))
        for name, part in (('all', ''), ('things', '_things'), ('stuff', '_stuff'))
    ]
    titles = [quality.upper() for quality in QUALITIES]
    return Section(
        'Panoptic',
        'Percent. A segment is found where one of its class has an IoU above 0.5 with it. SQ is the mean IoU of those '
        'that were found, RQ the F1 score of finding them, and the panoptic quality PQ of a class their product.',
        classes=ClassTable(titles, classes, [percent_cell(scores[quality]) for quality in QUALITIES]),
        tables=[NumberTable(('mean over', *titles), means)],
    )


def _boxes(report: Mapping[str, Any]) -> Section:
    accuracy = report['accuracy'] or {}
    boxes = accuracy.get('boxes')
    if boxes is None:
        return Section('Boxes')
    rows = [
        ('all', percent(boxes['ap'])),
        ('at IoU 0.5', percent(boxes['ap50'])),
        ('at IoU 0.75', percent(boxes['ap75'])),
    ]
    rows += [(text, percent(boxes[name])) for name, text in SIZES.items()]
    figure = plots.draw_pr_curves(accuracy['pr_curves'], boxes['ap50_per_class'])
    threshold = report['network']['graded_score_threshold']
    text = (
        f'Boxes with a score of at least {threshold:g} are graded, which is where the curves end.'
        if threshold > 0
        else ''
    )
    return Section(
        'Boxes',
        text,
        plots=as_plots([(figure, 'Precision over recall, with AP50 in percent')]),
        tables=[NumberTable(('average precision', '%'), rows)],
    )


def _confusion(report: Mapping[str, Any]) -> Section:
    figure = plots.draw_confusion((report['accuracy'] or {}).get('confusion'))
    text = 'What the pixels of each class were taken for: percent of the row, blank below half a percent.'
    return Section('Confusion', text, plots=as_plots([(figure, 'Ground truth against prediction')]))


def _maps(report: Mapping[str, Any]) -> Section:
    accuracy = report['accuracy'] or {}
    tables = []
    if (depth := accuracy.get('depth')) is not None:
        errors = [('mean relative error (abs-rel)', fixed(depth['abs_rel'], 3)), ('RMSE, m', fixed(depth['rmse_m'], 2))]
        errors.append(('less than 1.25 times off (delta1), %', percent(depth['delta1'])))
        tables.append(NumberTable(('depth', ''), errors))
    if (motion := accuracy.get('motion')) is not None:
        parts = {'moving': 'moving_iou', 'static': 'static_iou', 'mean': 'motion_miou'}
        tables.append(NumberTable(('motion', 'IoU, %'), [(name, percent(motion[key])) for name, key in parts.items()]))
    text = 'Depth is graded where the truth knows it, up to 80 m, without fitting its scale; all are means over images.'
    return Section('Depth and motion', text if depth is not None else '', tables=tables)


def _stability(report: Mapping[str, Any]) -> Section:
    stability = report['stability'] or {}
    rows = [(title, percent(stability[name])) for name, title in STABILITY.items() if stability.get(name) is not None]
    boxes = sorted(((v, n) for n, v in stability.get('boxes_per_frame', {}).items() if v), reverse=True)[:8]
    figures = (
        (
            plots.draw_class_shares(report['timeline'], plots.class_colors(report['labels'])),
            'Share of the picture by class',
        ),
        (
            plots.draw_histogram(stability.get('confidence_histogram'), 'confidence', 'pixels'),
            'Confidence of the masks',
        ),
        (plots.draw_histogram(stability.get('score_histogram'), 'score', 'boxes'), 'Scores of the boxes'),
    )
    tables = [NumberTable(('from frame to frame', '%'), rows)] if rows else []
    tables += [NumberTable(('boxes per frame', ''), [(name, f'{value:.2f}') for value, name in boxes])] if boxes else []
    text = (
        'What the results say without any ground truth. Agreement: pixels with the class they had a frame before. Mask '
        'flicker: pixels that change their class for one frame only. Box flicker: boxes without a partner in the frame '
        'before and after. Gaps: partners over two frames that are missing in between.'
    )
    return Section('Stability', text, plots=as_plots(figures), tables=tables)


def _worst(report: Mapping[str, Any], folder: Path) -> Section:
    """Pictures in their order until they weigh too much."""
    pictures: list[Picture] = []
    weight = 0
    for frame in report['worst']:
        source = embed_picture(folder / frame['picture']) if is_inside(frame['picture']) else ''
        weight += len(source)
        if weight > PICTURES_BYTES:
            pictures.append(Picture(f'{len(report["worst"]) - len(pictures)} more in the folder worst.', ''))
            break
        camera = f'{frame["camera"]}, ' if frame['camera'] else ''
        value = '' if frame['value'] is None else f'{frame["measure"]} {percent(frame["value"])} %'
        stamp = f'{Decimal(frame["stamp_ns"]).scaleb(-9):f} s'
        parts = [part for part in (value, frame['caption'], f'{camera}stamp {stamp}') if part]
        missing = '' if source else f' ({frame["picture"]}: cannot be read)'
        pictures.append(Picture(' · '.join(parts) + missing, source))
    measures = ', '.join(dict.fromkeys(frame['measure'] for frame in report['worst']))
    text = f'The frames with the lowest {measures}.'
    if report['accuracy']:
        text += ' Difference: wrong pixels and missed boxes are red, false alarms yellow.'
    return Section('Worst frames', text, pictures=pictures)


def _online(report: Mapping[str, Any]) -> Section:
    online = report['online']
    if online is None:
        return Section('Resources')
    counts = online['counts']
    rows = [('played', f'{online["played"]:,}'), ('answered', f'{online["answered"]:,}')]
    rows += [(name, f'{counts[name]:,}') for name in counts]
    numbers = (
        ('answers per second', online['throughput_hz'], '{:.3g}'),
        ('CPU, mean, % of one core', online['cpu_percent_mean'], '{:.0f}'),
        ('memory, highest, MiB', online['memory_mib_max'], '{:,.0f}'),
        ('rate of playing', online['rate'], '{:g}'),
    )
    measured = [(name, '-' if value is None else form.format(value)) for name, value, form in numbers]
    return Section(
        'Resources',
        'The node while the bag was played into it.',
        plots=as_plots([(plots.draw_resources(online['samples']), 'The node over time')]),
        tables=[NumberTable(('the node', ''), measured), NumberTable(('frames', ''), rows)],
    )


def _left_out(report: Mapping[str, Any]) -> Section:
    frames = report['frames']
    points = [f'{_count(count, "frame")} skipped: {reason}' for reason, count in frames['skipped'].items() if count]
    points += [
        f'{_count(frames["stamps"][n], "frame")} with {what}' for n, what in STAMPS.items() if frames['stamps'][n]
    ]
    if frames['lost']:
        points.append(f'{_count(frames["lost"], "message")} in damaged parts of the bag')
    points += (report['accuracy'] or {}).get('notes', [])
    return Section('What was left out', points=points)


def _settings(report: Mapping[str, Any]) -> Section:
    network, bag, labels = report['network'], report['bag'], report['labels']
    rows = [(name.replace('_', ' '), '-' if value is None else f'{value}') for name, value in network.items()]
    for camera in bag['cameras']:
        rows.append(
            (f'camera {camera["name"]}'.strip(), f'{camera["topic"]} ({camera["type"]}, {camera["messages"]:,})')
        )
    rows += [
        ('semantic classes', str(len(labels['semantic'] or ()))), ('box classes', str(len(labels['detection']))),
        ('created', report['created']), ('sembox_ros', report['sembox_ros']),
        ('sha256 of the outputs', report['outputs_sha256'] or '-'),
    ]  # fmt: skip
    return Section('Settings', tables=[NumberTable(('setting', ''), rows, wide=True)])
