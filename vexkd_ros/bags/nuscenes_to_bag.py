"""`nuscenes_to_bag`: a nuScenes folder → one ROS 2 bag a scene. Needs no ROS."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from nuscenes.nuscenes import NuScenes

from vexkd_model.command import existing_folder, make_parser, names, positive_int, run_command, seconds
from vexkd_model.data.map_masks import expansion_path
from vexkd_model.data.schema import open_nuscenes, scenes_of_split
from vexkd_model.data.splits import NAMES
from vexkd_model.errors import UserError
from vexkd_model.files import locked, write_json
from vexkd_model.parallel import in_parallel
from vexkd_model.progress import progress
from vexkd_ros.bags.reading import MANIFEST, is_complete
from vexkd_ros.bags.scene.can_bus import can_bus_folder
from vexkd_ros.bags.scene.selection import CAN_TOPICS, Selection, check_selection, sensor_topics
from vexkd_ros.bags.scene.tables import SceneRecord, read_scene
from vexkd_ros.bags.scene.topics import GROUND_TRUTH_MAPS, MAP_MARKERS
from vexkd_ros.bags.scene_bag import SceneBag, bag_record, check_kept, write_scene_bag
from vexkd_ros.bags.writing import BagFormat, add_format_arguments, chosen_format

HELP = """\
Write one bag folder a scene, OUT/scene-0103, OUT/scene-0916, … and OUT/manifest.json, which lists what is in them.

  /lidar/points                  PointCloud2 of every sweep: x, y, z, intensity, ring
  /cam_front/image/compressed    CompressedImage, the stored JPEG; /cam_front/camera_info; five more cameras
  /radar_front/points            PointCloud2, all 18 fields; four more radars
  /tf, /tf_static                odom → base_link at every ego pose of every sensor; base_link → sensors, latched
  /odom, /gps                    Odometry and NavSatFix at the LiDAR's stamps, from the ego poses
  /imu, /can_bus/…               of the CAN bus expansion, where it is
  /keyframe                      Header at keyframes; frame_id is the sample token
  /ground_truth                  Detection3DArray at keyframes, in base_link; /ground_truth/markers for RViz
  /ground_truth/map/<class>      OccupancyGrid at keyframes, of the map expansion, where it is
  /map/markers                   outlines of the map around the drive, latched

Stamps are nuScenes' own. Complete bags are kept, so an interrupted run goes on where it stopped."""
EXAMPLE = """\
examples:
  vexkd-nuscenes-to-bag data/nuscenes --version v1.0-mini --split mini_val --out bags
  vexkd-nuscenes-to-bag data/nuscenes --version v1.0-trainval --out bags --jobs 8 --distro jazzy
  vexkd-nuscenes-to-bag data/nuscenes --version v1.0-mini --out small --topics '/lidar/points,/tf*' --start 2 --end 8
then:
  vexkd-bag-player bags/scene-0103        (or: ros2 bag play bags/scene-0103)"""


def convert(
    dataroot: Path,
    version: str,
    out: Path,
    scenes: Sequence[str] | None = None,
    split: str | None = None,
    selection: Selection | None = None,
    bag_format: BagFormat | None = None,
    jobs: int = 1,
) -> list[Path]:
    """Write the bags of the named scenes, of a split, or of all scenes; return their folders in the order of names.

    selection: what goes into them, by default everything. jobs: scenes at a time, each in a process of its own.
    UserError for a scene with a damaged file, when all others have been written.
    """
    selection, bag_format = selection or Selection(), bag_format or BagFormat()
    nusc = open_nuscenes(dataroot, version)
    chosen = _choose(nusc, scenes, split)
    check_selection(selection, sorted(sensor["channel"] for sensor in nusc.sensor))
    _say_what_is_absent(nusc, chosen, selection)
    source = f"{Path(nusc.dataroot).resolve()} {nusc.version}"
    bags = {
        scene["name"]: SceneBag(
            Path(out) / scene["name"],
            source,
            selection,
            bag_format,
            f"{scene['name']} ({number}/{len(chosen)})",
            shows_progress=jobs == 1,
        )
        for number, scene in enumerate(chosen, 1)
    }
    with locked(
        Path(out) / ".lock", f"{out}: another nuscenes_to_bag is writing there; wait for it or choose another --out"
    ):
        missing = [scene for scene in chosen if not _is_kept(bags[scene["name"]])]
        # Scenes are read from the tables when their turn comes: all of nuScenes' at once would take gigabytes.
        work = ((bags[scene["name"]], read_scene(nusc, scene)) for scene in missing)
        written = in_parallel(_write_or_say_why_not, work, min(jobs, max(len(missing), 1)), option="--jobs")
        problems = list(filter(None, progress(written, "convert", len(missing), "scenes") if jobs > 1 else written))
        _list_in_manifest(Path(out), [bag.folder for bag in bags.values() if is_complete(bag.folder)])
    if problems:
        raise UserError(problems[0] + (f" (and {len(problems) - 1} scenes more, see above)" if problems[1:] else ""))
    return [bag.folder for bag in bags.values()]


def _write_or_say_why_not(work: tuple[SceneBag, SceneRecord]) -> str:
    """Write a bag; return why there is none of this scene, or ''."""
    try:
        write_scene_bag(work)
    except UserError as error:
        print(f"{work[0].label}: {error}", file=sys.stderr, flush=True)
        return str(error)
    return ""


def _is_kept(bag: SceneBag) -> bool:
    """Tell whether the bag is there already; UserError where something else is in its place."""
    if is_complete(bag.folder):
        check_kept(bag)
        print(f"{bag.label}: {bag.folder} is complete, kept", file=sys.stderr)
        return True
    if bag.folder.exists():
        raise UserError(f"{bag.folder}: exists and is no complete bag; remove it or choose another --out")
    return False


def _list_in_manifest(out: Path, folders: Sequence[Path]) -> None:
    """Write OUT/manifest.json: these bags, and those of earlier runs that are still there."""
    path = out / MANIFEST
    try:
        known = json.loads(path.read_text())["bags"]
    except (OSError, ValueError, KeyError):
        known = {}
    bags = {name: record for name, record in known.items() if is_complete(out / name)}
    bags |= {folder.name: bag_record(folder) for folder in folders}
    write_json(path, {"bags": dict(sorted(bags.items()))})


def _choose(nusc: NuScenes, names: Sequence[str] | None, split: str | None) -> list[dict]:
    present = {scene["name"]: scene for scene in sorted(nusc.scene, key=lambda scene: scene["name"])}
    if names:
        missing = [name for name in names if name not in present]
        if missing:
            raise UserError(f"--scenes {','.join(missing)}: not in {nusc.dataroot}, which has {_few(present)}")
        return [present[name] for name in dict.fromkeys(names)]
    if split is None:
        return list(present.values())
    chosen = scenes_of_split(nusc, split)
    if not chosen:
        raise UserError(f"--split {split}: {nusc.dataroot} holds no scene of it; it has {_few(present)}")
    return chosen


def _few(names: Iterable[str]) -> str:
    first, *others = list(names)[:10], *list(names)[10:]
    return ", ".join(first) + (" …" if others else "")


def _say_what_is_absent(nusc: NuScenes, scenes: Sequence[dict], selection: Selection) -> None:
    """Print a line on each expansion that the dataset lacks and a selected topic would need."""
    dataroot = Path(nusc.dataroot)
    others = sorted({sensor["channel"] for sensor in nusc.sensor if not sensor_topics(sensor["channel"])})
    if others:
        print(
            f"{', '.join(others)}: left out; {dataroot / nusc.version / NAMES} can say which of nuScenes' sensors "
            "it is",
            file=sys.stderr,
        )
    if any(map(selection.wants, CAN_TOPICS)) and not can_bus_folder(dataroot).is_dir():
        print(f"{can_bus_folder(dataroot)}: not there, so no /imu and no /can_bus/…", file=sys.stderr)
    if any(map(selection.wants, (MAP_MARKERS, *GROUND_TRUTH_MAPS))):
        towns = {nusc.get("log", scene["log_token"])["location"] for scene in scenes}
        for path in sorted(expansion_path(dataroot, town) for town in towns):
            if not path.is_file():
                print(f"{path}: not there, so no /ground_truth/map/… and no /map/markers of that town", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser("vexkd-nuscenes-to-bag", HELP, EXAMPLE)
    parser.add_argument("dataroot", type=existing_folder, help="folder with the tables' folder, samples/ and sweeps/")
    parser.add_argument("--version", required=True, help="v1.0-mini, v1.0-trainval, …")
    parser.add_argument("--out", required=True, type=Path, help="folder for the bags")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--scenes", type=names, help="scene-0103,scene-0916 (default: all)")
    which.add_argument("--split", help="split of splits.json beside the tables or of nuScenes")
    parser.add_argument(
        "--topics",
        type=names,
        default=Selection.topics,
        metavar="PATTERNS",
        help="only these, '/lidar/points,/tf*,/cam_*' (default: all)",
    )
    parser.add_argument("--sensors", type=names, metavar="NAMES", help="sensor data of LIDAR_TOP,CAM_FRONT only")
    parser.add_argument("--keyframes", action="store_true", help="sensor data at keyframes only, 2 Hz")
    parser.add_argument(
        "--start",
        type=seconds,
        default=Selection.start_s,
        metavar="S",
        help="seconds after the scene's begin (default: 0)",
    )
    parser.add_argument(
        "--end",
        type=seconds,
        default=Selection.end_s,
        metavar="S",
        help="seconds after the scene's begin (default: its end)",
    )
    parser.add_argument("--jobs", type=positive_int, default=1, metavar="N", help="scenes at a time (default: 1)")
    add_format_arguments(parser)

    def command(arguments: argparse.Namespace) -> None:
        selection = Selection(arguments.topics, arguments.sensors, arguments.keyframes, arguments.start, arguments.end)
        for folder in convert(
            arguments.dataroot,
            arguments.version,
            arguments.out,
            arguments.scenes,
            arguments.split,
            selection,
            chosen_format(arguments),
            arguments.jobs,
        ):
            print(folder)

    return run_command(parser, command, argv)


if __name__ == "__main__":
    sys.exit(main())
