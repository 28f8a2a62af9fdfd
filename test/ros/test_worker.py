"""The worker's threads, with steps that wait where a test holds them. Messages are numbers."""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from harness import wait_until
from hypothesis import given, settings
from hypothesis import strategies as st

from sembox_ros.errors import InputError
from sembox_ros.ros.statistics import OUTCOMES, FrameStatistics
from sembox_ros.ros.worker import Frame, FrameWorker

STEPS = ('decode', 'infer', 'results', 'pictures')
FOREVER_S = 3600.0  # a test that waited for it would fail by its own patience of ten seconds


class Steps:
    """Stages that tell what they are called with, and can be held.

    Args:
        held: steps that wait until `release`.
        verdict: what becomes of a message in a step: an outcome, an exception to raise, or None to go on.
    """

    def __init__(self, *held: str, verdict: Callable[[str, Any], str | Exception | None] = lambda *_: None):
        self.entered: dict[str, queue.Queue] = {step: queue.Queue() for step in STEPS}
        self.log: list[tuple[str, str, Any]] = []
        self.failures: list[str] = []
        self.retries: list[tuple[int, str]] = []
        self._verdict = verdict
        self._gates = {step: threading.Event() for step in STEPS}
        for step in set(STEPS) - set(held):
            self._gates[step].set()

    def hold(self, step: str) -> None:
        self._gates[step].clear()

    def release(self, step: str) -> None:
        self._gates[step].set()

    def next(self, step: str) -> Any:
        """What the step is called with next: a message, or in inference a list of them."""
        return self.entered[step].get(timeout=10)

    def _enter(self, step: str, told: Any, frames: list[Frame]) -> str | None:
        self.log += [(step, frame.camera, frame.message) for frame in frames]
        self.entered[step].put(told)
        assert self._gates[step].wait(10)
        return next((verdict for frame in frames if (verdict := self._judge(step, frame)) is not None), None)

    def _judge(self, step: str, frame: Frame) -> str | None:
        verdict = self._verdict(step, frame.message)
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    def decode(self, frame: Frame) -> str | None:
        return self._enter('decode', frame.message, [frame])

    def admit(self, frame: Frame) -> str | None:
        return self._judge('admit', frame)

    def infer(self, frames: list[Frame]) -> None:
        self._enter('infer', [frame.message for frame in frames], frames)

    def publish_results(self, frame: Frame) -> str | None:
        return self._enter('results', frame.message, [frame])

    def publish_pictures(self, frame: Frame) -> str | None:
        frame.published = time.perf_counter()
        return self._enter('pictures', frame.message, [frame]) or 'processed'

    def report_failure(self, frame: Frame, error: Exception) -> None:
        self.failures.append(f'{frame.camera}: {error}')

    def report_retry(self, count: int, error: Exception) -> None:
        self.retries.append((count, str(error)))


class Bench:
    """A worker with its cameras' statistics."""

    def __init__(self, steps: Steps, cameras: str = 'a', **options: Any):
        self.total = FrameStatistics()
        self.statistics = {camera: FrameStatistics(self.total) for camera in cameras}
        self.worker = FrameWorker(steps, self.statistics, **options)

    def wait_for(self, **counts: int) -> None:
        """Wait until the cameras together have these outcomes, and no others."""
        expected = {**dict.fromkeys(OUTCOMES, 0), **counts, 'received': 0}
        wait_until(lambda: self.total.counts() == expected, str(counts), timeout_s=10)


def test_the_newest_frame_wins_at_both_slots_and_the_others_are_counted():
    steps = Steps('infer')
    bench = Bench(steps)
    bench.worker.offer('a', 0)
    assert (steps.next('decode'), steps.next('infer')) == (0, [0])
    for number in (1, 2, 3):
        bench.worker.offer('a', number)
        assert steps.next('decode') == number  # decoding goes on meanwhile
    bench.wait_for(dropped=2)
    steps.release('infer')
    assert steps.next('infer') == [3]
    bench.wait_for(dropped=2, processed=2)
    assert bench.worker.stop(5)


def test_a_frame_that_waits_for_decoding_is_replaced_before_it_costs_anything():
    steps = Steps('decode')
    bench = Bench(steps)
    bench.worker.offer('a', 0)
    assert steps.next('decode') == 0
    for number in (1, 2, 3):
        bench.worker.offer('a', number)
    bench.wait_for(dropped=2)
    steps.release('decode')
    assert steps.next('decode') == 3
    assert bench.worker.stop(5)
    assert [message for step, _, message in steps.log if step == 'decode'] == [0, 3]


def test_decoding_inference_and_publishing_overlap():
    steps = Steps('results')
    bench = Bench(steps)
    bench.worker.offer('a', 0)
    assert steps.next('results') == 0
    steps.hold('infer')
    bench.worker.offer('a', 1)
    assert [steps.next('infer'), steps.next('infer')] == [[0], [1]]
    steps.hold('decode')
    bench.worker.offer('a', 2)
    assert [steps.next('decode') for _ in range(3)] == [0, 1, 2]
    assert bench.total.counts()['processed'] == 0  # 0 is published, 1 inferred and 2 decoded at this moment
    for step in STEPS:
        steps.release(step)
    bench.wait_for(processed=3)
    assert bench.worker.stop(5)


def test_inference_takes_nothing_while_a_batch_waits_for_the_publisher():
    steps = Steps('results')
    bench = Bench(steps)
    bench.worker.offer('a', 0)
    assert steps.next('results') == 0
    bench.worker.offer('a', 1)
    assert [steps.next('infer'), steps.next('infer')] == [[0], [1]]
    wait_until(lambda: bench.worker._inferred, 'the second batch to wait')
    for number in (2, 3, 4):
        bench.worker.offer('a', number)
    bench.wait_for(dropped=2)
    assert steps.entered['infer'].empty()
    steps.release('results')
    assert steps.next('infer') == [4]
    bench.wait_for(dropped=2, processed=3)
    assert [message for step, _, message in steps.log if step == 'results'] == [0, 1, 4]
    assert bench.worker.stop(5)


def test_a_batch_waits_for_every_camera_but_not_longer_than_the_window():
    steps = Steps()
    window_s = [FOREVER_S]
    bench = Bench(steps, 'abc', window_s=lambda: window_s[0])
    for camera, number in (('b', 1), ('a', 0)):
        bench.worker.offer(camera, number)
    wait_until(lambda: len(bench.worker._decoded) == 2, 'two frames that wait for the third')
    bench.worker.offer('c', 2)
    assert sorted(steps.next('infer')) == [0, 1, 2]  # at once: all are there
    bench.wait_for(processed=3)
    window_s[0] = 0.02
    bench.worker.offer('b', 3)
    assert steps.next('infer') == [3]  # the others are silent
    window_s[0] = 0.0
    bench.worker.offer('c', 4)
    assert steps.next('infer') == [4]
    assert bench.worker.stop(5)


@pytest.mark.parametrize(('cameras', 'offered'), [('abc', 'ac'), ('a', 'a')])
def test_a_full_batch_or_the_only_camera_waits_for_nobody(cameras, offered):
    steps = Steps()
    bench = Bench(steps, cameras, max_batch=2, window_s=lambda: FOREVER_S)
    for camera in offered:
        bench.worker.offer(camera, camera)
    assert sorted(steps.next('infer')) == list(offered)
    assert bench.worker.stop(5)


def test_cameras_take_turns_when_the_batch_is_too_small_for_all():
    steps = Steps('infer')
    bench = Bench(steps, 'abc', max_batch=1)
    bench.worker.offer('a', 0)
    assert steps.next('infer') == [0]
    for camera, number in (('a', 3), ('b', 1), ('c', 2)):
        bench.worker.offer(camera, number)
    wait_until(lambda: len(bench.worker._decoded) == 3, 'three decoded frames')
    steps.release('infer')
    assert [steps.next('infer') for _ in range(3)] == [[1], [2], [3]]
    bench.wait_for(processed=4)
    assert bench.worker.stop(5)


def test_results_of_the_whole_batch_go_before_its_pictures():
    steps = Steps()
    bench = Bench(steps, 'ab', window_s=lambda: FOREVER_S)
    bench.worker.offer('a', 0)
    bench.worker.offer('b', 1)
    bench.wait_for(processed=2)
    published = [(step, camera) for step, camera, _ in steps.log if step in ('results', 'pictures')]
    assert published == [('results', 'a'), ('results', 'b'), ('pictures', 'a'), ('pictures', 'b')]
    assert bench.worker.stop(5)


@pytest.mark.parametrize('step', ['decode', 'admit', 'infer', 'results', 'pictures'])
def test_a_bad_frame_fails_alone_in_every_step(step):
    def verdict(at: str, message: int) -> Exception | None:
        return InputError('broken') if (at, message) == (step, 1) else None

    steps = Steps(verdict=verdict)
    bench = Bench(steps, 'abc', window_s=lambda: 0.0 if step == 'decode' else FOREVER_S)
    for camera, number in (('a', 0), ('b', 1), ('c', 2)):
        bench.worker.offer(camera, number)
    bench.wait_for(processed=2, failed=1)
    assert bench.statistics['b'].counts()['failed'] == 1
    assert steps.failures == ['b: broken']
    assert steps.retries == ([(3, 'broken')] if step == 'infer' else [])
    assert bench.worker.stop(5)


def test_a_batch_that_is_too_large_runs_one_by_one():
    class OneAtATime(Steps):
        def infer(self, frames: list[Frame]) -> None:
            super().infer(frames)
            if len(frames) > 1:
                raise InputError('out of device memory')

    steps = OneAtATime()
    bench = Bench(steps, 'ab', window_s=lambda: FOREVER_S)
    bench.worker.offer('a', 0)
    bench.worker.offer('b', 1)
    bench.wait_for(processed=2)
    assert (steps.retries, steps.failures) == ([(2, 'out of device memory')], [])
    assert bench.worker.stop(5)


def test_a_network_that_always_fails_ends_nothing():
    steps = Steps(verdict=lambda step, message: RuntimeError('no') if step == 'infer' and message < 4 else None)
    bench = Bench(steps, 'ab', window_s=lambda: FOREVER_S)
    for number, expected in ((0, {'failed': 2}), (2, {'failed': 4}), (4, {'failed': 4, 'processed': 2})):
        bench.worker.offer('a', number)
        bench.worker.offer('b', number + 1)
        bench.wait_for(**expected)
    assert bench.worker.stop(5)


@pytest.mark.parametrize(('step', 'outcome'), [('decode', 'idle'), ('decode', 'stale'), ('admit', 'stale')])
def test_a_frame_can_end_before_the_network(step, outcome):
    steps = Steps(verdict=lambda at, message: outcome if (at, message) == (step, 0) else None)
    bench = Bench(steps)
    bench.worker.offer('a', 0)
    bench.wait_for(**{outcome: 1})
    bench.worker.offer('a', 1)
    assert steps.next('infer') == [1]
    bench.wait_for(**{outcome: 1, 'processed': 1})
    assert bench.worker.stop(5)


def test_stop_gives_up_on_frames_in_flight_and_counts_the_waiting_ones():
    steps = Steps('infer')
    bench = Bench(steps, 'ab')
    bench.worker.offer('a', 0)
    assert steps.next('infer') == [0]
    bench.worker.offer('a', 1)
    assert [steps.next('decode'), steps.next('decode')] == [0, 1]
    steps.hold('decode')
    bench.worker.offer('b', 2)
    assert steps.next('decode') == 2
    bench.worker.offer('b', 3)
    assert not bench.worker.stop(0.05)
    bench.wait_for(dropped=2)  # 1 was decoded, 3 was not
    bench.worker.offer('a', 4)  # nobody will come for it
    bench.wait_for(dropped=3)
    steps.release('infer')
    steps.release('decode')
    assert bench.worker.stop(5)
    bench.wait_for(dropped=4, processed=1)  # 2 was being decoded, 0 was in the network
    assert ('pictures', 'a', 0) in steps.log


def test_frames_that_wait_can_be_discarded():
    steps = Steps('infer')
    bench = Bench(steps, 'ab')
    bench.worker.discard('paused')  # nothing waits: nothing counted
    bench.worker.offer('a', 0)
    assert steps.next('infer') == [0]
    bench.worker.offer('a', 1)
    wait_until(lambda: len(bench.worker._decoded) == 1, 'a decoded frame')
    steps.hold('decode')
    bench.worker.offer('b', 2)
    assert [steps.next('decode') for _ in range(3)] == [0, 1, 2]
    bench.worker.offer('b', 3)
    bench.worker.discard('paused')
    bench.wait_for(paused=2)
    steps.release('decode')
    steps.release('infer')
    bench.wait_for(paused=2, processed=2)
    assert bench.worker.stop(5)


class Picture:
    """Something that can be watched going away."""


def test_no_frame_outlives_its_outcome():
    class Forgetful(Steps):
        def _enter(self, step: str, told: Any, frames: list[Frame]) -> None:
            """Keeps nothing, unlike its base."""

    steps = Forgetful()
    bench = Bench(steps, 'ab')
    messages = [Picture() for _ in range(4)]
    watched = [weakref.ref(message) for message in messages]
    for index, message in enumerate(messages):
        bench.worker.offer('ab'[index % 2], message)
    del messages, message
    wait_until(lambda: all(reference() is None for reference in watched), 'the frames to be freed')
    assert sum(bench.total.counts().values()) == 4
    assert bench.worker.stop(5)


def test_a_frame_that_is_done_does_not_wait_for_its_batch_to_be_freed():
    class Quick(Steps):
        def publish_results(self, frame: Frame) -> str | None:
            return 'processed' if frame.camera == 'a' else None

    steps = Quick('pictures')
    bench = Bench(steps, 'ab', window_s=lambda: FOREVER_S)
    for camera in 'ab':
        bench.worker.offer(camera, Picture())
    [first, second] = [weakref.ref(message) for message in steps.next('infer')]
    steps.next('pictures')
    steps.log.clear()  # what the test itself remembers
    for _ in 'ab':
        steps.next('decode')
    wait_until(lambda: first() is None, 'the end of the frame without pictures')
    assert second() is not None
    steps.release('pictures')
    wait_until(lambda: second() is None, 'the end of the other')
    assert bench.worker.stop(5)


def test_latencies_add_up_to_the_total():
    frame = Frame('a', None, arrival=10.0, published=10.5)
    frame.watch.timings_ms = {'decode': 20.0, 'network': 300.0, 'publish': 30.0}
    assert frame.latencies_ms() == pytest.approx(
        {'wait': 150.0, 'decode': 20.0, 'network': 300.0, 'publish': 30.0, 'total': 500.0}
    )


@settings(max_examples=40, deadline=None)
@given(
    events=st.lists(st.one_of(st.sampled_from('abc'), st.just('discard'), st.just('breathe')), max_size=60),
    ends=st.dictionaries(
        st.integers(0, 59),
        st.tuples(st.sampled_from(['decode', 'admit', 'infer', 'results']), st.sampled_from(['stale', 'idle', 'fail'])),
    ),
    max_batch=st.integers(1, 4),
)
def test_every_frame_ends_in_one_outcome_and_answers_keep_their_order(events, ends, max_batch):
    def verdict(step: str, message: int) -> str | Exception | None:
        at, what = ends.get(message, (None, None))
        if at != step:
            return None
        return InputError('broken') if what == 'fail' or step == 'infer' else what

    steps = Steps(verdict=verdict)
    bench = Bench(steps, 'abc', max_batch=max_batch)
    offered = 0
    for event in events:
        if event == 'discard':
            bench.worker.discard('paused')
        elif event == 'breathe':
            time.sleep(0)  # the other threads may run, or not
        else:
            bench.worker.offer(event, offered)
            offered += 1
    assert bench.worker.stop(10)
    assert sum(bench.total.counts().values()) == offered
    assert sum(sum(s.counts().values()) for s in bench.statistics.values()) == offered
    for camera in 'abc':
        published = [message for step, name, message in steps.log if (step, name) == ('results', camera)]
        assert published == sorted(set(published))
