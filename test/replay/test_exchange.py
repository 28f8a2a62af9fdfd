"""Answers are matched to frames by camera and stamp."""

from __future__ import annotations

from pathlib import Path

import pytest

from sembox_ros.replay.exchange import Exchange, LogFollower, LogRow

IMAGES = {'front': '/cam0', 'rear': '/cam1'}
ANSWERS = {'front': '/front/detections', 'rear': '/rear/detections'}
MS = 10**6


def test_each_answer_finds_its_frame():
    exchange = Exchange(IMAGES, ANSWERS)
    exchange.add_played([LogRow('/cam0', 5, 7 * MS, 100 * MS), LogRow('/cam1', 5, 8 * MS, 101 * MS)])
    assert not exchange.is_complete()
    exchange.add_recorded([LogRow('/rear/detections', 5, 0, 111 * MS), LogRow('/front/overlay', 5, 0, 112 * MS)])
    assert [frame.answered_ns for frame in exchange.frames] == [None, 111 * MS]
    exchange.add_played([LogRow('/cam0', 6, 9 * MS, 120 * MS)])
    exchange.add_recorded([LogRow('/front/detections', 4, 0, 125 * MS)])  # of no frame
    assert not exchange.is_complete()
    exchange.add_recorded([LogRow('/front/detections', 6, 0, 150 * MS)])
    assert exchange.is_complete()  # the newest frame of each camera has its answer; the older one will get none
    assert [frame.end_to_end_ms for frame in exchange.frames] == [None, pytest.approx(10), pytest.approx(30)]
    assert [(frame.camera, frame.stamp_ns) for frame in exchange.answered()] == [('rear', 5), ('front', 6)]
    assert exchange.last_answer_ns == 150 * MS


def test_of_equal_stamps_the_newest_that_was_played_by_then_is_meant():
    exchange = Exchange({'': '/image'}, {'': '/detections'})
    exchange.add_played([LogRow('/image', 0, 0, t * MS) for t in (10, 20, 30)])
    exchange.add_recorded([LogRow('/detections', 0, 0, 25 * MS), LogRow('/detections', 0, 0, 26 * MS)])
    assert [frame.answered_ns for frame in exchange.frames] == [26 * MS, 25 * MS, None]
    exchange.add_recorded([LogRow('/detections', 0, 0, 5 * MS)])  # before anything was played
    assert exchange.frames[2].answered_ns is None


def test_the_age_is_what_a_live_camera_would_have_seen():
    exchange = Exchange({'': '/image'}, {'': '/detections'})
    exchange.add_played([LogRow('/image', 1000 * MS, 1040 * MS, 7 * MS), LogRow('/image', 0, 1100 * MS, 8 * MS)])
    exchange.add_recorded([LogRow('/detections', 1000 * MS, 0, 17 * MS), LogRow('/detections', 0, 0, 18 * MS)])
    assert [frame.age_ms for frame in exchange.frames] == [pytest.approx(50), None]  # a stamp of 0 is none


def test_a_log_is_followed_while_it_grows(tmp_path: Path):
    path = tmp_path / 'log.csv'
    with LogFollower(path) as follower:
        assert follower.read() == []
        with path.open('w') as file:
            for text, rows in (
                ('topic,stamp_ns,bag_ns,wall_ns\n/a,1,2,3\n/b,', [LogRow('/a', 1, 2, 3)]),
                (',5,6', []),
                ('\n', [LogRow('/b', None, 5, 6)]),
            ):
                file.write(text)
                file.flush()
                assert follower.read() == rows
