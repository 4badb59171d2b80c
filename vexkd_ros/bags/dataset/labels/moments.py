"""Moments of an annotation tool's frames: which of the bag's clouds each frame is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

from vexkd_model.errors import UserError
from vexkd_ros.bags.dataset.labels.labelled import FileFrame, LabelledFrame
from vexkd_ros.bags.dataset.plan import nearest, tolerance_ns

STAMP = re.compile(r"\d+\.\d+|[1-9]\d{9,}")
NUMBER = re.compile(r"\d+$")
UNITS_NS = (10**9, 10**6, 10**3, 1)  # a stamp may be in s, ms, µs or ns
DATE = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z?")  # as KITTI's timestamps.txt has them


@dataclass(frozen=True)
class Moments:
    """Moments of a bag that frames may be.

    clouds: stamps [ns] of all messages of the LiDAR, or else of the first camera, in ascending order. numbered: stamps
    that the numbers of frames count from `first`. kind: of those, for people.
    """

    clouds: Sequence[int]
    numbered: Sequence[int]
    first: int
    kind: str

    def frames(self, frames: Sequence[FileFrame]) -> list[LabelledFrame]:
        """Give each frame the stamp of its cloud, in the order of time. UserError for a frame that is none's."""
        places: dict[int, str] = {}
        labelled = []
        for frame in frames:
            stamp = self._stamp(frame)
            if stamp in places:
                raise UserError(f"{frame.where}: is the same cloud as {places[stamp]}; remove one of the two")
            places[stamp] = frame.where
            labelled.append(LabelledFrame(stamp, frame.boxes))
        return sorted(labelled, key=lambda one: one.stamp_ns)

    def _stamp(self, frame: FileFrame) -> int:
        name = frame.name.rpartition("__")[2]  # as files of a dataset are called: DRIVE__LIDAR_TOP__STAMP.pcd.bin
        name = name.removesuffix(".bin").removesuffix(".pcd")
        if STAMP.fullmatch(name):
            return nearest_cloud(stamp_ns(name, self.clouds, frame.where), self.clouds, frame.where)
        number = NUMBER.search(name)
        if number is None:
            raise UserError(
                f"{frame.where}: {name} ends neither with a number nor with a stamp; name frames by one of the two"
            )
        index = int(number[0]) - self.first
        if not 0 <= index < len(self.numbered):
            raise UserError(
                f"{frame.where}: frame {int(number[0])} is none of the {len(self.numbered)} {self.kind}, which are "
                f"{self.first} … {self.first + len(self.numbered) - 1}; correct it, or annotations.first or "
                "annotations.numbers in the file of --sensors"
            )
        return nearest_cloud(self.numbered[index], self.clouds, frame.where)


def stamp_ns(text: str, clouds: Sequence[int], where: str) -> int:
    """Read a time in s, ms, µs or ns, whichever is a time of the bag, as nanoseconds; UserError where none is."""
    begin, end = clouds[0] - 10**9, clouds[-1] + 10**9
    for unit in UNITS_NS:
        if begin <= (stamp := round(Decimal(text) * unit)) <= end:
            return stamp
    raise UserError(
        f"{where}: {text} s, ms, µs or ns is not in the time of the bag, {clouds[0] * 1e-9:.3f} … "
        f"{clouds[-1] * 1e-9:.3f} s; are these the labels of another bag?"
    )


def nearest_cloud(stamp: int, clouds: Sequence[int], where: str) -> int:
    """Return the stamp of the cloud that was taken then; UserError where there is none."""
    found = clouds[nearest(clouds, stamp)]
    if abs(found - stamp) > (tolerance := tolerance_ns(clouds)):
        raise UserError(
            f"{where}: no cloud within {tolerance * 1e-6:.0f} ms of {stamp * 1e-9:.6f} s, the nearest is "
            f"{abs(found - stamp) * 1e-6:.0f} ms away; remove the frame, or compare the clocks"
        )
    return found


def read_timestamps(file: Path, clouds: Sequence[int]) -> list[int]:
    """Read the time of each frame [ns], a line a frame: a number, or a date and time of UTC as KITTI writes them."""
    try:
        lines = file.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error}); correct annotations.timestamps") from None
    stamps = []
    for number, line in enumerate(lines, 1):
        where, text = f"{file}:{number}", line.strip()
        if date := DATE.fullmatch(text):
            seconds = datetime.fromisoformat(date[1]).replace(tzinfo=timezone.utc).timestamp()
            stamps.append(int(seconds) * 10**9 + int((date[2] or "0").ljust(9, "0")))
        elif re.fullmatch(r"\d+(\.\d+)?", text):
            stamps.append(stamp_ns(text, clouds, where))
        else:
            raise UserError(
                f"{where}: {text!r} is neither a number nor a date like 2011-09-26 13:02:25.964; correct it"
            )
    return stamps
