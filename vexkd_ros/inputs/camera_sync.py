"""Synchronisation of several cameras' images to sets of one moment, without blocking on a dead camera."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

SILENT_S = 1.0  # a camera that has sent nothing for so long, while others have, is not waited for until it is back
JUMP_NS = 1_000_000_000  # further back than a late image: time itself jumped
LATE = "an image came after a newer one of the same camera: not used"
JUMPED = "time went back between images: older ones dropped: new scene, bad clock?"


class ReceivedImage(NamedTuple):
    """message: sensor_msgs/Image or CompressedImage. received: time.monotonic()."""

    message: Any
    stamp_ns: int
    received: float


Images = tuple[ReceivedImage | None, ...]  # one a camera, None where it is missing


@dataclass(frozen=True)
class ImageSet:
    """Images that belong together. received: when the first of them, or the reference, came.

    stamp_ns: the moment that the set stands for: the reference's stamp, or else the mean of the images' own.
    """

    stamp_ns: int
    images: Images
    received: float

    @property
    def spread_ns(self) -> int:
        """Return how far [ns] the farthest image is from the set's moment."""
        return max((abs(image.stamp_ns - self.stamp_ns) for image in self.images if image), default=0)


class CameraSync:
    """Synchroniser; newest first, never a queue; thread-safe. One thread puts, another gets.

    An image belongs to a moment if their stamps differ by at most `tolerance_ns`, either way. A set goes out as soon as
    every camera that is alive has its image, and at the latest `deadline_s` after its first news came: an image, or
    with `referenced` the reference, whose stamp then is the moment.
    """

    def __init__(
        self,
        cameras: int,
        tolerance_ns: int,
        deadline_s: float,
        referenced: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._tolerance_ns, self._deadline_s, self._referenced = tolerance_ns, deadline_s, referenced
        self._recent: tuple[deque[ReceivedImage], ...] = tuple(deque() for _ in range(cameras))
        self._heard, self._resumed = [-SILENT_S] * cameras, -SILENT_S
        self._closed = False
        self._changed = threading.Condition()
        self._forget()

    def _forget(self) -> None:
        for recent in self._recent:
            recent.clear()
        self._used: list[ReceivedImage | None] = [None] * len(self._recent)
        self._reference_ns: int | None = None
        self._first_news: float | None = None

    def put(self, camera: int, image: ReceivedImage) -> str:
        """Take in an image; return LATE if it is refused, JUMPED if it made all earlier ones void, or ''."""
        with self._changed:
            reason = self._make_room(self._recent[camera], image)
            if reason == LATE:
                return reason
            self._recent[camera].append(image)
            if image.received - max(self._heard) > SILENT_S:
                self._resumed = image.received
            self._heard[camera] = image.received
            if not self._referenced and self._first_news is None:
                self._first_news = image.received
            self._changed.notify()
        return reason

    def refer(self, stamp_ns: int, received: float) -> bool:
        """Take in a reference: a set of its moment is wanted. True if it replaced one that nobody had got."""
        with self._changed:
            replaced, self._reference_ns, self._first_news = self._reference_ns is not None, stamp_ns, received
            self._changed.notify()
        return replaced

    def get(self) -> ImageSet | None:
        """Wait for a set; None once this is closed."""
        with self._changed:
            while not self._closed:
                now, first_news = self._clock(), self._first_news
                images = None if first_news is None else self._find(now, first_news)
                if images:
                    self._used = [image or before for image, before in zip(images.images, self._used, strict=True)]
                    self._reference_ns = self._first_news = None
                    return images
                first_news = self._first_news  # None again where all that was new has been forgotten
                self._changed.wait(None if first_news is None else first_news + self._deadline_s - now)
        return None

    def close(self) -> None:
        """Wake whoever waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _make_room(self, recent: deque[ReceivedImage], image: ReceivedImage) -> str:
        """Drop what can belong to no set any more. LATE: the image itself is such."""
        if recent and image.stamp_ns <= recent[-1].stamp_ns:
            if recent[-1].stamp_ns - image.stamp_ns <= JUMP_NS:
                return LATE
            self._forget()
            return JUMPED
        while recent and image.stamp_ns - recent[0].stamp_ns > 3 * self._tolerance_ns and not self._awaited(recent[0]):
            recent.popleft()
        return ""

    def _awaited(self, image: ReceivedImage) -> bool:
        """Return whether it belongs to the reference of which a set is still to be got."""
        return self._reference_ns is not None and abs(image.stamp_ns - self._reference_ns) <= self._tolerance_ns

    def _find(self, now: float, first_news: float) -> ImageSet | None:
        late = now >= first_news + self._deadline_s
        if self._reference_ns is not None:
            return self._find_referenced(self._reference_ns, now, first_news, late)
        return self._find_newest(now, first_news, late)

    def _find_referenced(self, moment: int, now: float, first_news: float, late: bool) -> ImageSet | None:
        # Only an image that is no older than the moment tells that none closer to it is still to come.
        decided = all(
            (recent and recent[-1].stamp_ns >= moment) or self._silent(camera, now)
            for camera, recent in enumerate(self._recent)
        )
        if not decided and not late:
            return None
        nearest = [min(recent, key=lambda image: abs(image.stamp_ns - moment), default=None) for recent in self._recent]
        return ImageSet(moment, _within(nearest, moment, self._tolerance_ns), first_news)

    def _find_newest(self, now: float, first_news: float, late: bool) -> ImageSet | None:
        newest = [recent[-1] if recent else None for recent in self._recent]
        fresh = [image for image, used in zip(newest, self._used, strict=True) if image and image is not used]
        if not fresh:  # all that was new has been forgotten
            self._first_news = None
            return None
        near = max((self._before(newest, image.stamp_ns) for image in fresh), key=_size_and_age)
        waited_for = [image is None or image is used for image, used in zip(near, self._used, strict=True)]
        if not late and any(waits and not self._silent(camera, now) for camera, waits in enumerate(waited_for)):
            return None
        stamps = [image.stamp_ns for image in near if image]
        mean = sum(stamps) // len(stamps)  # whole numbers: a float would lose 100 ns
        return ImageSet(mean, _within(near, mean, self._tolerance_ns), first_news)

    def _before(self, images: Sequence[ReceivedImage | None], end_ns: int) -> Images:
        """Return the images within tolerance of a moment in their midst, the last of them at `end_ns`."""
        return _within(images, end_ns - self._tolerance_ns, self._tolerance_ns)

    def _silent(self, camera: int, now: float) -> bool:
        return now - max(self._heard[camera], self._resumed) > SILENT_S


def _within(images: Sequence[ReceivedImage | None], moment_ns: int, tolerance_ns: int) -> Images:
    return tuple(image if image and abs(image.stamp_ns - moment_ns) <= tolerance_ns else None for image in images)


def _size_and_age(images: Images) -> tuple[int, int]:
    stamps = [image.stamp_ns for image in images if image]
    return len(stamps), max(stamps)
