"""Images of several cameras → sets of one moment, by hand-set stamps."""

import threading

import pytest
from support.clock import ManualClock

from vexkd_ros.inputs.camera_sync import JUMPED, LATE, SILENT_S, CameraSync, ReceivedImage

MS = 1_000_000
TOLERANCE_NS = 50 * MS
START = 1_533_000_000_000 * MS


def stamps(found) -> list[int | None]:
    """[ms] since START."""
    return [found and (found.stamp_ns - START) // MS for found in found.images]


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def image(clock):
    """Function of a stamp: an image that was received so many seconds ago."""
    return lambda stamp_ms, age_s=0.0: ReceivedImage(None, START + stamp_ms * MS, clock() - age_s)


@pytest.fixture
def sync_of(clock):
    """CameraSync on that clock: however long a set takes, its deadline passes only when the clock is advanced."""
    return lambda *arguments, **options: CameraSync(*arguments, **options, clock=clock)


@pytest.fixture
def sync(sync_of):
    return sync_of(3, TOLERANCE_NS, deadline_s=0.2)


class Taker(threading.Thread):
    """Takes a set in a thread of its own."""

    def __init__(self, sync):
        super().__init__(daemon=True)
        self._sync = sync
        self.start()

    def run(self):
        self._taken = self._sync.get()

    @property
    def waits(self):
        self.join(0.05)
        return self.is_alive()

    def taken(self):
        self.join(5)
        assert not self.is_alive(), "it waits for the deadline"
        return self._taken


def take(sync):
    """Return the next set, which must not need the deadline unless the clock has passed it."""
    return Taker(sync).taken()


def test_a_set_goes_out_as_soon_as_every_camera_has_its_image(sync, image):
    for camera, stamp in enumerate((0, 10, 20)):
        sync.put(camera, image(stamp))
    found = take(sync)
    assert stamps(found) == [0, 10, 20]
    assert found.stamp_ns == START + 10 * MS
    assert found.spread_ns == 10 * MS


def test_whoever_takes_first_is_woken_by_the_last_image(sync, image):
    taker = Taker(sync)
    for camera in range(3):
        sync.put(camera, image(5))
    assert stamps(taker.taken()) == [5, 5, 5]


def test_a_camera_that_does_not_come_is_left_out_at_the_deadline(sync, clock, image):
    sync.put(0, image(0))
    sync.put(2, image(4))
    taker = Taker(sync)
    clock.advance(0.1)
    assert taker.waits
    clock.advance(0.1)
    assert stamps(taker.taken()) == [0, None, 4]


def test_a_camera_that_has_long_been_silent_is_not_waited_for_until_it_is_back(sync, image):
    for camera in range(3):
        sync.put(camera, image(0, age_s=SILENT_S + 0.9))
    take(sync)
    for stamp in (300, 600):
        sync.put(0, image(stamp, age_s=(1800 - 3 * stamp) * 1e-3))
        sync.put(1, image(stamp, age_s=(1800 - 3 * stamp) * 1e-3))
    assert stamps(take(sync)) == [600, 600, None]
    for camera in range(3):
        sync.put(camera, image(700))
    assert stamps(take(sync)) == [700, 700, 700]


def test_after_a_pause_of_all_cameras_none_counts_as_silent(sync, image, clock):
    for camera in range(3):
        sync.put(camera, image(0, age_s=20.0))
    take(sync)
    sync.put(0, image(20_000))
    taker = Taker(sync)
    assert taker.waits  # the others have their chance
    clock.advance(0.2)
    assert stamps(taker.taken()) == [20_000, None, None]


@pytest.mark.parametrize("off", [-400, 400], ids=["old", "ahead"])
def test_an_image_that_is_too_far_from_the_others_is_left_out_either_way(sync, off, image, clock):
    for camera, stamp in enumerate((1000, 1000 + off, 1010)):
        sync.put(camera, image(stamp))
    clock.advance(0.3)
    assert stamps(take(sync)) == [1000, None, 1010]


def test_a_camera_at_half_rate_gives_its_last_image_twice_while_that_is_near_enough(sync, image, clock):
    for camera in range(3):
        sync.put(camera, image(0))
    assert stamps(take(sync)) == [0, 0, 0]
    for camera in (0, 1):
        sync.put(camera, image(50))
    clock.advance(0.3)
    assert stamps(take(sync)) == [50, 50, 0]
    for camera in (0, 1):
        sync.put(camera, image(120))
    clock.advance(0.3)
    assert stamps(take(sync)) == [120, 120, None]


def test_of_many_images_the_newest_are_taken(sync, image):
    for stamp in range(0, 1000, 10):
        for camera in range(3):
            sync.put(camera, image(stamp))
    assert stamps(take(sync)) == [990, 990, 990]


def test_an_image_out_of_order_is_not_used_and_said_so(sync, image):
    for camera in range(3):
        assert sync.put(camera, image(100)) == ""
    assert sync.put(1, image(60)) == LATE
    assert sync.put(1, image(100)) == LATE
    assert stamps(take(sync)) == [100, 100, 100]


def test_time_that_jumps_back_begins_anew(sync, image):
    for camera in range(3):
        sync.put(camera, image(60_000))
    take(sync)
    assert [sync.put(camera, image(0)) for camera in range(3)] == [JUMPED, "", ""]
    assert stamps(take(sync)) == [0, 0, 0]


def test_with_a_reference_the_images_nearest_to_it_are_taken_and_its_stamp_is_the_moment(sync_of, image, clock):
    sync = sync_of(2, TOLERANCE_NS, deadline_s=5.0, referenced=True)
    for stamp in (0, 80, 160):
        sync.put(0, image(stamp))
        sync.put(1, image(stamp + 30))
    sync.refer(START + 90 * MS, clock())
    found = take(sync)
    assert stamps(found) == [80, 110]
    assert found.stamp_ns == START + 90 * MS


def test_a_reference_waits_for_images_that_may_still_come_nearer(sync_of, image, clock):
    sync = sync_of(2, TOLERANCE_NS, deadline_s=5.0, referenced=True)
    sync.put(0, image(70))
    sync.put(1, image(70))
    sync.refer(START + 100 * MS, clock())
    taker = Taker(sync)
    assert taker.waits
    sync.put(0, image(110))
    sync.put(1, image(150))
    assert stamps(taker.taken()) == [110, 70]


def test_a_jump_ahead_does_not_take_the_images_of_a_reference_that_still_waits(sync_of, image, clock):
    """The last moment of a drive waits for images that may come nearer, and those of the next drive come."""
    sync = sync_of(2, TOLERANCE_NS, deadline_s=60.0, referenced=True)
    for camera in range(2):
        sync.put(camera, image(90))
    sync.refer(START + 100 * MS, clock())
    for camera in range(2):
        sync.put(camera, image(1_000_000))
    assert stamps(take(sync)) == [90, 90]


def test_a_reference_that_is_overtaken_is_told(sync_of, clock):
    sync = sync_of(1, TOLERANCE_NS, deadline_s=0.0, referenced=True)
    assert [sync.refer(START + i, clock()) for i in range(3)] == [False, True, True]
    assert take(sync).stamp_ns == START + 2


def test_closing_wakes_whoever_waits(sync):
    taker = Taker(sync)
    sync.close()
    assert taker.taken() is None
