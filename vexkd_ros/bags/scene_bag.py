"""Bag folder of one scene, whole or absent."""

import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rosbags.interfaces import Connection

from vexkd_model.errors import UserError
from vexkd_model.process import keep_freed_memory
from vexkd_model.progress import progress
from vexkd_ros.bags.reading import open_bag
from vexkd_ros.bags.scene.selection import Selection
from vexkd_ros.bags.scene.tables import SceneRecord
from vexkd_ros.bags.scene.timeline import timeline
from vexkd_ros.bags.scene.topics import Due, Topic
from vexkd_ros.bags.typestore import bag_typestore
from vexkd_ros.bags.writing import BagFormat

SOURCE, CHOSEN, LEFT_OUT = "source", "chosen", "left_out"  # keys of our custom data in metadata.yaml


@dataclass(frozen=True)
class SceneBag:
    """Bag to be written. source: which dataset. label: its name in lines to the user. shows_progress: by messages."""

    folder: Path
    source: str
    selection: Selection
    format: BagFormat
    label: str
    shows_progress: bool

    @property
    def chosen(self) -> str:
        """Return what its content depends on beside the dataset, as text."""
        return json.dumps({**self.selection.to_dict(), "distro": self.format.distro, "storage": self.format.storage})


def write_scene_bag(work: tuple[SceneBag, SceneRecord]) -> None:
    """Write a bag beside its place, move it there when it is complete, say how large it is and how fast it went.

    UserError where a file is damaged or cannot be written.
    """
    keep_freed_memory()
    bag, scene = work
    folder = bag.folder
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    start = time.monotonic()
    try:
        due, missing = timeline(scene, bag.selection)
        for line in missing:
            print(f"{bag.label}: {line}", file=sys.stderr)
        written = _write(bag, partial / folder.name, due, missing)
        os.replace(partial / folder.name, folder)
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    seconds = time.monotonic() - start
    print(
        f"{bag.label}: {folder}, {len(due)} messages, {written / 1e6:.0f} MB in {seconds:.1f} s, "
        f"{written / 1e6 / seconds:.0f} MB/s",
        file=sys.stderr,
        flush=True,
    )


def _write(bag: SceneBag, folder: Path, due: list[Due], missing: list[str]) -> int:
    """Write the messages; return their bytes."""
    store, written = bag_typestore(), 0
    writer = bag.format.writer(folder)
    for key, value in ((SOURCE, bag.source), (CHOSEN, bag.chosen), (LEFT_OUT, json.dumps(missing))):
        writer.set_custom_data(key, value)
    with writer:
        connections: dict[Topic, Connection] = {}
        for stamp, topic, make in progress(due, bag.label, unit="messages") if bag.shows_progress else due:
            if topic not in connections:
                connections[topic] = bag.format.add_topic(writer, topic.name, topic.msgtype, topic.qos)
            data = store.serialize_cdr(make(), topic.msgtype)
            writer.write(connections[topic], stamp, data)
            written += len(data)
    return written


def check_kept(bag: SceneBag) -> None:
    """Raise UserError where the complete bag in its place is another one."""
    with open_bag(bag.folder, whole=True) as reader:
        custom = reader.custom
    if custom.get(SOURCE) != bag.source:
        raise UserError(
            f"{bag.folder}: is a bag of {custom.get(SOURCE) or 'another dataset'}; choose another --out or remove it"
        )
    if custom.get(CHOSEN) != bag.chosen:
        raise UserError(
            f"{bag.folder}: was written with other options ({custom.get(CHOSEN)}); choose another --out or remove it"
        )


def bag_record(folder: Path) -> dict:
    """Describe a complete bag of ours, for the manifest."""
    with open_bag(folder, whole=True) as reader:
        custom = reader.custom
        topics = {
            connection.topic: {"type": connection.msgtype, "messages": connection.msgcount}
            for connection in sorted(reader.connections, key=lambda connection: connection.topic)
        }
        record = {
            "start_ns": reader.start_time,
            "duration_s": round(reader.duration * 1e-9, 6),
            "messages": reader.message_count,
            "topics": topics,
        }
    return {
        "source": custom[SOURCE],
        "options": json.loads(custom[CHOSEN]),
        "left_out": json.loads(custom[LEFT_OUT]),
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
        **record,
    }
