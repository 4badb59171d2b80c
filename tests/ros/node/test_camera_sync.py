"""Images of several cameras → sets of one moment, by hand-set stamps."""

import threading
import time

import pytest

from vexkd_ros.inputs.camera_sync import JUMPED, LATE, SILENT_S, CameraSync, ReceivedImage

MS = 1_000_000
TOLERANCE_NS = 50 * MS
START = 1_533_000_000_000 * MS


def image(stamp_ms: int, age_s: float = 0.0) -> ReceivedImage:
    """Received `age_s` ago."""
    return ReceivedImage(None, START + stamp_ms * MS, time.monotonic() - age_s)


def stamps(found) -> list[int | None]:
    """[ms] since START."""
    return [found and (found.stamp_ns - START) // MS for found in found.images]


@pytest.fixture
def sync():
    return CameraSync(3, TOLERANCE_NS, deadline_s=0.2)


def test_a_set_goes_out_as_soon_as_every_camera_has_its_image(sync):
    for camera, stamp in enumerate((0, 10, 20)):
        sync.give(camera, image(stamp))
    begun = time.monotonic()
    found = sync.take()
    assert time.monotonic() - begun < 0.1
    assert stamps(found) == [0, 10, 20]
    assert found.stamp_ns == START + 10 * MS
    assert found.spread_ns == 10 * MS


def test_whoever_takes_first_is_woken_by_the_last_image(sync):
    taken = []
    taker = threading.Thread(target=lambda: taken.append(sync.take()))
    taker.start()
    for camera in range(3):
        sync.give(camera, image(5))
    taker.join(5)
    assert stamps(taken[0]) == [5, 5, 5]


def test_a_camera_that_does_not_come_is_left_out_at_the_deadline(sync):
    begun = time.monotonic()
    sync.give(0, image(0))
    sync.give(2, image(4))
    assert stamps(sync.take()) == [0, None, 4]
    assert 0.2 <= time.monotonic() - begun < 1.0


def test_a_camera_that_has_long_been_silent_is_not_waited_for_until_it_is_back(sync):
    for camera in range(3):
        sync.give(camera, image(0, age_s=SILENT_S + 0.9))
    sync.take()
    for stamp in (300, 600):
        sync.give(0, image(stamp, age_s=(1800 - 3 * stamp) * 1e-3))
        sync.give(1, image(stamp, age_s=(1800 - 3 * stamp) * 1e-3))
    begun = time.monotonic()
    assert stamps(sync.take()) == [600, 600, None]
    assert time.monotonic() - begun < 0.1
    for camera in range(3):
        sync.give(camera, image(700))
    assert stamps(sync.take()) == [700, 700, 700]


def test_after_a_pause_of_all_cameras_none_counts_as_silent(sync):
    for camera in range(3):
        sync.give(camera, image(0, age_s=20.0))
    sync.take()
    begun = time.monotonic()
    sync.give(0, image(20_000))
    assert stamps(sync.take()) == [20_000, None, None]
    assert time.monotonic() - begun >= 0.2  # the others had their chance


@pytest.mark.parametrize("off", [-400, 400], ids=["old", "ahead"])
def test_an_image_that_is_too_far_from_the_others_is_left_out_either_way(sync, off):
    for camera, stamp in enumerate((1000, 1000 + off, 1010)):
        sync.give(camera, image(stamp))
    assert stamps(sync.take()) == [1000, None, 1010]


def test_a_camera_at_half_rate_gives_its_last_image_twice_while_that_is_near_enough(sync):
    for camera in range(3):
        sync.give(camera, image(0))
    assert stamps(sync.take()) == [0, 0, 0]
    for camera in (0, 1):
        sync.give(camera, image(50))
    assert stamps(sync.take()) == [50, 50, 0]
    for camera in (0, 1):
        sync.give(camera, image(120))
    assert stamps(sync.take()) == [120, 120, None]


def test_of_many_images_the_newest_are_taken(sync):
    for stamp in range(0, 1000, 10):
        for camera in range(3):
            sync.give(camera, image(stamp))
    assert stamps(sync.take()) == [990, 990, 990]


def test_an_image_out_of_order_is_not_used_and_said_so(sync):
    for camera in range(3):
        assert sync.give(camera, image(100)) == ""
    assert sync.give(1, image(60)) == LATE
    assert sync.give(1, image(100)) == LATE
    assert stamps(sync.take()) == [100, 100, 100]


def test_time_that_jumps_back_begins_anew(sync):
    for camera in range(3):
        sync.give(camera, image(60_000))
    sync.take()
    assert [sync.give(camera, image(0)) for camera in range(3)] == [JUMPED, "", ""]
    assert stamps(sync.take()) == [0, 0, 0]


def test_with_a_reference_the_images_nearest_to_it_are_taken_and_its_stamp_is_the_moment():
    sync = CameraSync(2, TOLERANCE_NS, deadline_s=5.0, referenced=True)
    for stamp in (0, 80, 160):
        sync.give(0, image(stamp))
        sync.give(1, image(stamp + 30))
    sync.refer(START + 90 * MS, time.monotonic())
    found = sync.take()
    assert stamps(found) == [80, 110]
    assert found.stamp_ns == START + 90 * MS


def test_a_reference_waits_for_images_that_may_still_come_nearer():
    sync = CameraSync(2, TOLERANCE_NS, deadline_s=5.0, referenced=True)
    sync.give(0, image(70))
    sync.give(1, image(70))
    sync.refer(START + 100 * MS, time.monotonic())
    taken = []
    taker = threading.Thread(target=lambda: taken.append(sync.take()))
    taker.start()
    time.sleep(0.05)
    assert not taken
    sync.give(0, image(110))
    sync.give(1, image(150))
    taker.join(5)
    assert stamps(taken[0]) == [110, 70]


def test_a_jump_ahead_does_not_take_the_images_of_a_reference_that_still_waits():
    """The last moment of a drive waits for images that may come nearer, and those of the next drive come."""
    sync = CameraSync(2, TOLERANCE_NS, deadline_s=60.0, referenced=True)
    for camera in range(2):
        sync.give(camera, image(90))
    sync.refer(START + 100 * MS, time.monotonic())
    for camera in range(2):
        sync.give(camera, image(1_000_000))
    assert stamps(sync.take()) == [90, 90]


def test_a_reference_that_is_overtaken_is_told():
    sync = CameraSync(1, TOLERANCE_NS, deadline_s=0.0, referenced=True)
    assert [sync.refer(START + i, time.monotonic()) for i in range(3)] == [False, True, True]
    assert sync.take().stamp_ns == START + 2


def test_closing_wakes_whoever_waits(sync):
    taken = []
    taker = threading.Thread(target=lambda: taken.append(sync.take()))
    taker.start()
    sync.close()
    taker.join(5)
    assert taken == [None]
