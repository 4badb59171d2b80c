"""`nuscenes_to_bag`: a nuScenes folder → one ROS 2 bag a scene. Needs no ROS."""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nuscenes.nuscenes import NuScenes
from nuscenes.utils.splits import create_splits_scenes
from rosbags.rosbag2 import StoragePlugin, Writer

from vexkd_model.data.tables import open_nuscenes
from vexkd_model.errors import UserError
from vexkd_model.progress import progress
from vexkd_ros.bags.command import run_command
from vexkd_ros.bags.reading import is_complete, open_bag
from vexkd_ros.bags.scene_messages import TOPICS, scene_messages
from vexkd_ros.bags.typestore import BAG_FORMAT, bag_typestore

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
HELP = """\
Write one bag folder a scene: OUT/scene-0103, OUT/scene-0916, …

  /lidar/points   PointCloud2 of every LiDAR sweep (20 Hz), frame lidar_top
  /tf, /tf_static odom → base_link at every LiDAR and camera ego pose; base_link → sensors, latched
  /odom           nav_msgs/Odometry at the LiDAR's stamps
  /ground_truth   vision_msgs/Detection3DArray at keyframes, in base_link
  /keyframe       std_msgs/Header at keyframes; frame_id is the sample token

Stamps are nuScenes' own. Complete bags are kept, so an interrupted run goes on where it stopped."""
EXAMPLE = """\
example:
  nuscenes_to_bag data/nuscenes --version v1.0-mini --split mini_val --out bags
then:
  bag_player bags/scene-0103        (or: ros2 bag play bags/scene-0103)"""


def convert(dataroot: Path, version: str, out: Path, scenes: Sequence[str] | None = None, split: str | None = None,
            storage: str = "mcap") -> list[Path]:
    """Write the bags of the named scenes, of a split, or of all scenes; return their folders in the order of names."""
    nusc = open_nuscenes(dataroot, version)
    chosen = _choose(nusc, scenes, split)
    folders = []
    for number, scene in enumerate(chosen, 1):
        folder = Path(out) / scene["name"]
        folders.append(folder)
        label = f"{scene['name']} ({number}/{len(chosen)})"
        if is_complete(folder):
            _check_source(folder, nusc)
            print(f"{label}: {folder} is complete, kept", file=sys.stderr)
        elif folder.exists():
            raise UserError(f"{folder}: exists and is no complete bag; remove it or choose another --out")
        else:
            _write_bag(nusc, scene, folder, STORAGES[storage], label)
    return folders


def _choose(nusc: NuScenes, names: Sequence[str] | None, split: str | None) -> list[dict]:
    present = {scene["name"]: scene for scene in sorted(nusc.scene, key=lambda scene: scene["name"])}
    if names:
        missing = [name for name in names if name not in present]
        if missing:
            raise UserError(f"--scenes {','.join(missing)}: not in {nusc.dataroot}, which has {_few(present)}")
        return [present[name] for name in names]
    if split is None:
        return list(present.values())
    splits = create_splits_scenes()
    if split not in splits:
        raise UserError(f"--split {split}: no official split of that name; there are {', '.join(splits)}")
    chosen = [present[name] for name in splits[split] if name in present]
    if not chosen:
        raise UserError(f"--split {split}: {nusc.dataroot} holds no scene of it; it has {_few(present)}")
    return chosen


def _few(names: Sequence[str]) -> str:
    return ", ".join(list(names)[:10]) + (" …" if len(names) > 10 else "")


def _source(nusc: NuScenes) -> str:
    return f"{Path(nusc.dataroot).resolve()} {nusc.version}"


def _check_source(folder: Path, nusc: NuScenes) -> None:
    with open_bag(folder) as reader:
        source = (reader.storage.metadata.custom or {}).get("source")
    if source != _source(nusc):
        raise UserError(f"{folder}: is a bag of {source or 'another dataset'}; choose another --out or remove it")


def _write_bag(nusc: NuScenes, scene: dict, folder: Path, storage: StoragePlugin, label: str) -> None:
    """Written beside its place and moved there when it is complete."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    start, written = time.monotonic(), 0
    try:
        writer = Writer(partial / folder.name, version=BAG_FORMAT, storage_plugin=storage)
        writer.set_custom_data("source", _source(nusc))
        with writer:
            store = bag_typestore()
            connections = {topic: writer.add_connection(topic.name, topic.msgtype, typestore=store,
                                                        offered_qos_profiles=[topic.qos]) for topic in TOPICS}
            for topic, stamp, message in progress(scene_messages(nusc, scene), label, unit="messages"):
                data = store.serialize_cdr(message, topic.msgtype)
                writer.write(connections[topic], stamp, data)
                written += len(data)
        os.replace(partial / folder.name, folder)
    except KeyError as error:
        raise UserError(f"{nusc.dataroot}/{nusc.version}: tables refer to a record that is not there ({error}); "
                        "complete the download") from None
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    seconds = time.monotonic() - start
    print(f"{label}: {folder}, {written / 1e6:.0f} MB in {seconds:.1f} s, {written / 1e6 / seconds:.0f} MB/s",
          file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("nuscenes_to_bag", description=HELP, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot", type=Path, help="folder with the tables' folder, samples/ and sweeps/")
    parser.add_argument("--version", required=True, help="v1.0-mini, v1.0-trainval, …")
    parser.add_argument("--out", required=True, type=Path, help="folder for the bags")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--scenes", type=lambda names: names.split(","), help="scene-0103,scene-0916 (default: all)")
    which.add_argument("--split", help="official split: mini_train, mini_val, train, val")
    parser.add_argument("--storage", choices=STORAGES, default="mcap", help="bag storage (default: mcap)")

    def command(arguments: argparse.Namespace) -> None:
        for folder in convert(arguments.dataroot, arguments.version, arguments.out, arguments.scenes,
                              arguments.split, arguments.storage):
            print(folder)

    return run_command(parser, command, argv)


if __name__ == "__main__":
    sys.exit(main())
