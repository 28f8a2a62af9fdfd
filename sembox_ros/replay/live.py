"""Online replay: a bag is played into the real node over DDS, and what the node publishes is recorded and timed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from sembox_ros.errors import DatasetError, SemboxError
from sembox_ros.replay.bags import read_bag
from sembox_ros.replay.exchange import Exchange, LiveFrame, LogFollower
from sembox_ros.replay.health import DIAGNOSTICS_TOPIC, HealthReport, read_health
from sembox_ros.replay.processes import Processes, termination_interrupts
from sembox_ros.replay.usage import UsageSample, UsageSampler

# The first of these that the node publishes and the recorder records is the answer to a frame.
ANSWER_TOPICS = ('segmentation/mask', 'detections', 'segmentation/confidence', 'segmentation/color', 'overlay')
CLOCK_HZ = 100.0  # the age of a frame is known this exactly
POLL_S = 0.1
SAMPLE_PERIOD_S = 0.5
RECORDER_PATIENCE_S = 5.0  # for topics that this network does not publish
SUBSCRIBER_PATIENCE_S = 30.0
REPORTS_AFTER = 2  # reports of the node after the last answer: the first may have been made before it was counted
REPORTS_PATIENCE_S = 10.0
NO_ANSWER_PATIENCE_S = 30.0  # if nothing was answered at all
QUIET_S, QUIET_LATENCIES = 3.0, 3.0  # no answer for so long, and for so many of the longest latencies: none will come

INTERRUPTED = 'interrupted'  # why a run that the user ended is not the whole bag

NodeParameters = Mapping[str, bool | int | float | str | Sequence[str]]


@dataclass(frozen=True)
class LiveRun:
    """What was seen of one run of the node.

    Attributes:
        recorded: bag of what the node published.
        partial: None, or why not all of the bag was played.
        rate: at which the bag was played, 2.0 is twice as fast.
        frames: every image that was played, in order.
        usage: of the node's process, from the first image on.
        reports: of the node about itself.
    """

    recorded: Path
    partial: str | None
    rate: float
    frames: list[LiveFrame]
    usage: list[UsageSample]
    reports: list[HealthReport]


def run_live(
    bag: Path,
    cameras: Mapping[str, str],
    out: Path,
    *,
    record: Sequence[str],
    node_parameters: NodeParameters | None = None,
    rate: float = 1.0,
    domain_id: int | None = None,
    bag_name: str = 'bag',
    messages: int | None = None,
    start_timeout_s: float = 600.0,
    progress: bool = True,
) -> LiveRun:
    """Play images of a bag into the node, in real time, and record what it publishes.

    Node, recorder and player are processes on a ROS domain of this machine only. The node has the bag's time
    (``use_sim_time``), so that its `max_age_s` means what it would have meant during the recording. Everything that it
    publishes goes to the bag `bag_name` in `out`; beside it stay the logs of the processes, `node_parameters.yaml`
    and the tables of the messages played and recorded.

    Ctrl-C and SIGTERM end a run early once playing has begun; what was recorded is kept.

    Args:
        bag: what to play.
        cameras: camera -> topic of its images in the bag; the only camera's name is empty.
        out: folder for the results, which is made; must not hold a bag `bag_name`.
        record: absolute topics of the node to record; /diagnostics always is.
        node_parameters: parameters of the node.
        rate: 2.0 is twice as fast.
        domain_id: ROS domain; None takes one that nothing else on this machine uses.
        bag_name: of the recorded bag.
        messages: how many images there are, for the progress bar.
        start_timeout_s: how long the node may take to become active.
        progress: tell on stderr what is going on.

    Raises:
        SemboxError: ROS is not there, or one of the processes failed; the message has its last words.
    """
    out.mkdir(parents=True, exist_ok=True)
    recorded = out / bag_name
    if recorded.exists():
        raise DatasetError(f'out: {recorded} exists already; remove it or name another folder')
    topics = [*dict.fromkeys((*record, DIAGNOSTICS_TOPIC))]
    with (
        termination_interrupts(),
        LogFollower(out / 'played.csv') as played,
        LogFollower(out / 'recorded.csv') as arrived,
        Processes(out, domain_id) as processes,
    ):
        pid = processes.start('node', node_arguments(out, cameras, node_parameters or {}))
        processes.start('recorder', [str(recorded), *topics, '--log', str(out / 'recorded.csv')])
        wait_until_ready(processes, topics, timeout_s=start_timeout_s, progress=progress)
        exchange = Exchange(cameras, find_answers(processes, cameras))
        processes.start('player', player_arguments(bag, cameras, rate, out / 'played.csv'))
        watch = _Watch(processes, exchange, played, arrived, UsageSampler(pid))
        with tqdm(total=messages, unit='frame', desc='playing', disable=None if progress else True) as bar:
            partial = watch.follow(bar)
        for name in ('player', 'recorder', 'node'):  # the bag is closed before its topics go
            processes.stop(name)
    reports = [read_health(entry) for entry in read_bag(recorded, [DIAGNOSTICS_TOPIC])]
    return LiveRun(recorded, partial, rate, exchange.frames, watch.usage, [r for r in reports if r is not None])


def node_arguments(out: Path, cameras: Mapping[str, str], parameters: NodeParameters) -> list[str]:
    """ROS arguments of the node; writes its parameters to a file, where they keep their types."""
    given: dict[str, object] = {'use_sim_time': True, 'diagnostics_period_s': SAMPLE_PERIOD_S, **parameters}
    names = [camera for camera in cameras if camera]
    if names:
        given['cameras'] = names
    file = out / 'node_parameters.yaml'
    file.write_text(json.dumps({'/**': {'ros__parameters': given}}, indent=1))  # JSON is YAML
    args = ['--ros-args', '--params-file', str(file)]
    for camera, topic in cameras.items():
        args += ['-r', f'{camera}/image:={topic}' if camera else f'image:={topic}']
    return args


def player_arguments(bag: Path, cameras: Mapping[str, str], rate: float, log: Path) -> list[str]:
    """Arguments of the player."""
    return [
        str(bag), '--topics', *cameras.values(), '--rate', str(rate), '--clock', str(CLOCK_HZ),
        '--wait', str(SUBSCRIBER_PATIENCE_S), '--log', str(log), '--no-progress',
    ]  # fmt: skip


def wait_until_ready(processes: Processes, topics: Sequence[str], *, timeout_s: float, progress: bool) -> None:
    """Wait until the node is active and the recorder listens.

    Raises:
        SemboxError: a process ended, or the node takes longer than `timeout_s` seconds.
    """
    if progress:
        log = processes.log('node')
        print(
            f'node starting on ROS domain {processes.domain_id}, log in {log}; '
            'the first start measures engines, for up to a minute',
            file=sys.stderr,
            flush=True,
        )
    start = time.monotonic()
    active_s = None
    with tqdm(bar_format='{desc} {elapsed}', desc='starting', disable=None if progress else True) as bar:
        while active_s is None or time.monotonic() - active_s < RECORDER_PATIENCE_S:
            processes.check('node', 'recorder')
            if active_s is not None and recorded_topics(processes) >= set(topics):
                return
            lines = processes.read_log('node')
            if active_s is None and any(': active; ' in line for line in lines):
                active_s = time.monotonic()
            elif active_s is None and time.monotonic() - start > timeout_s:
                words = processes.last_words('node')
                raise SemboxError(f'the node is not active after {timeout_s:.0f} s; {words}')
            if lines:
                bar.set_description_str(lines[-1].rpartition(']: ')[2][:100])
            bar.refresh()
            time.sleep(POLL_S)


def recorded_topics(processes: Processes) -> set[str]:
    """The topics that the recorder has subscribed to."""
    return {line.rpartition(': recording ')[2] for line in processes.read_log('recorder') if ': recording ' in line}


def find_answers(processes: Processes, cameras: Mapping[str, str]) -> dict[str, str]:
    """Camera -> the recorded topic that answers its frames.

    Raises:
        SemboxError: nothing that the node publishes for each frame is recorded.
    """
    recorded = recorded_topics(processes)
    for topic in ANSWER_TOPICS:
        found = {camera: f'/{camera}/{topic}' if camera else f'/{topic}' for camera in cameras}
        if recorded.issuperset(found.values()):
            return found
    listed = ', '.join(sorted(recorded)) or 'nothing'
    raise SemboxError(f'record: expected {" or ".join(ANSWER_TOPICS)} of every camera; the recorder found {listed}')


@dataclass
class _Watch:
    """Follows a run until the last answer is there."""

    processes: Processes
    exchange: Exchange
    played: LogFollower
    arrived: LogFollower
    sampler: UsageSampler
    usage: list[UsageSample] = field(default_factory=list)
    _reports_ns: list[int] = field(default_factory=list)
    _sampled_s: float = field(default_factory=time.monotonic)

    def follow(self, bar: tqdm) -> str | None:
        """Until all is played and answered; None, or why that was not all of the bag.

        Raises:
            SemboxError: a process failed.
        """
        try:
            while self.processes.exit_status('player') is None:
                self._step(bar)
            self._step(bar)  # what came between the last step and the end
            partial = self._end_of_player()
            self._wait_for_answers(bar)
            return partial
        except KeyboardInterrupt:
            self._read(bar)
            if not self.exchange.frames:
                raise
            return INTERRUPTED

    def _end_of_player(self) -> str | None:
        status = self.processes.exit_status('player')
        if status and not self.exchange.frames:
            self.processes.check('player')
        return f'the player ended early; {self.processes.last_words("player")}' if status else None

    def _wait_for_answers(self, bar: tqdm) -> None:
        ended_ns = time.time_ns()
        while not self.exchange.is_complete() and not self._is_quiet(ended_ns):
            self._step(bar)
        settled_ns = time.time_ns()
        while sum(ns > settled_ns for ns in self._reports_ns) < REPORTS_AFTER:
            if time.time_ns() - settled_ns > REPORTS_PATIENCE_S * 1e9:
                return
            self._step(bar)

    def _is_quiet(self, ended_ns: int) -> bool:
        """True if it is so long ago that the player ended, or an answer came, that no further one is to be expected."""
        latencies = [f.end_to_end_ms for f in self.exchange.frames if f.end_to_end_ms is not None]
        patience_s = max(QUIET_S, QUIET_LATENCIES * max(latencies) * 1e-3) if latencies else NO_ANSWER_PATIENCE_S
        return time.time_ns() - max(ended_ns, self.exchange.last_answer_ns) > patience_s * 1e9

    def _step(self, bar: tqdm) -> None:
        time.sleep(POLL_S)
        self.processes.check('node', 'recorder')
        self._read(bar)
        if time.monotonic() - self._sampled_s >= SAMPLE_PERIOD_S:
            self._sampled_s = time.monotonic()
            sample = self.sampler.sample()
            if self.exchange.frames:
                self.usage.append(sample)

    def _read(self, bar: tqdm) -> None:
        rows = self.arrived.read()  # first: what these rows answer is in the other table by now
        self.exchange.add_played(self.played.read())
        self.exchange.add_recorded(rows)
        self._reports_ns += [row.wall_ns for row in rows if row.topic == DIAGNOSTICS_TOPIC]
        bar.set_postfix_str(f'{len(self.exchange.answered())} answered', refresh=False)
        bar.update(len(self.exchange.frames) - bar.n)
