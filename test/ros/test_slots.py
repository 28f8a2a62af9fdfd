from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sembox_ros.ros.slots import NewestSlots

CAMERAS = ('a', 'b', 'c', 'd', 'e')


def test_the_newest_item_takes_the_place_of_the_one_that_waits():
    slots = NewestSlots(('a', 'b'))
    assert [slots.put('a', 1), slots.put('b', 2), slots.put('a', 3)] == [None, None, 1]
    assert len(slots) == 2
    assert slots.take(9) == [3, 2]
    assert len(slots) == 0
    assert slots.take(9) == []


def test_since_is_when_the_first_of_those_that_wait_came():
    slots = NewestSlots(('a', 'b'))
    slots.put('a', 1)
    first = slots.since
    slots.put('b', 2)
    slots.put('a', 3)
    slots.take(1)
    assert slots.since == first > 0
    slots.take(1)
    slots.put('a', 4)
    assert slots.since > first


def test_who_was_served_least_recently_goes_first():
    slots = NewestSlots(('a', 'b', 'c'))
    served = []
    for _ in range(6):
        for camera in 'cba':  # all have news all the time
            slots.put(camera, camera)
        served += slots.take(1)
    assert served == ['a', 'b', 'c'] * 2
    slots.clear()
    slots.put('b', 'b')
    assert slots.take(2) == ['b']
    for camera in 'abc':
        slots.put(camera, camera)
    assert slots.take(3) == ['a', 'c', 'b']


OPERATIONS = st.one_of(
    st.tuples(st.just('put'), st.sampled_from(CAMERAS)),
    st.tuples(st.just('take'), st.integers(1, 6)),
    st.tuples(st.just('clear'), st.none()),
)


@given(st.lists(OPERATIONS, max_size=60))
def test_nothing_is_lost_doubled_or_reordered(operations):
    slots = NewestSlots(CAMERAS)
    out: list[tuple[str, int]] = []
    taken: list[tuple[str, int]] = []
    count = 0
    for what, argument in operations:
        if what == 'put':
            replaced = slots.put(argument, (argument, count))
            count += 1
            out += [replaced] if replaced is not None else []
        elif what == 'take':
            items = slots.take(argument)
            assert len(items) <= argument
            assert len({camera for camera, _ in items}) == len(items)
            taken += items
        else:
            out += slots.clear()
    assert len(out) + len(taken) + len(slots) == count
    assert len({*out, *taken}) == len(out) + len(taken)
    for camera in CAMERAS:
        numbers = [number for name, number in taken if name == camera]
        assert numbers == sorted(numbers)


@given(limit=st.integers(1, 5), busy=st.lists(st.sets(st.sampled_from(CAMERAS)), min_size=1, max_size=30))
def test_no_camera_starves(limit, busy):
    """A camera that always has news is served at least once in as many turns as there are cameras per batch."""
    slots = NewestSlots(CAMERAS)
    turns_until_served = -(-len(CAMERAS) // limit)
    waiting: Counter[str] = Counter()
    for others in busy:
        for camera in {'a', *others}:
            slots.put(camera, camera)
        served = slots.take(limit)
        waiting['a'] = 0 if 'a' in served else waiting['a'] + 1
        assert waiting['a'] < turns_until_served
