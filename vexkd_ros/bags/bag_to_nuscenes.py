"""`bag_to_nuscenes`: bags → a dataset in the nuScenes schema. Needs no ROS."""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from vexkd_model.command import make_parser, names, positive_int, positive_number, run_command
from vexkd_model.config.reading import parse_section
from vexkd_model.data.splits import SPLITS
from vexkd_model.errors import UserError
from vexkd_model.files import locked, write_json
from vexkd_model.parallel import in_parallel
from vexkd_model.progress import progress
from vexkd_ros.bags.dataset.assembly import assemble
from vexkd_ros.bags.dataset.bag_files import BagJob, Settings, read_record, write_bag
from vexkd_ros.bags.dataset.guess import completed, guess_wiring
from vexkd_ros.bags.dataset.pictures import PictureFormat
from vexkd_ros.bags.dataset.wiring import Wiring, dump_wiring, read_wiring
from vexkd_ros.bags.reading import bag_paths

WORK, MANIFEST = ".bag_to_nuscenes", "dataset.json"
HELP = """\
Write a dataset in the nuScenes schema from bags of any kind (mcap, sqlite3, ROS 1; folders or files), a scene a bag.
The unmodified devkit, vexkd prepare and every other code base of nuScenes reads it.

  --sensors FILE says which topic is which sensor:
    sensors:
      LIDAR_TOP: /lidar/points                  # or several, [/front/points, /rear/points], merged at one stamp
      CAM_FRONT: {image: /cam/image_raw/compressed, info: /cam/camera_info}
    odom_frame: odom
    annotations: {path: labels/<bag>}           # of KITTI, SUSTechPOINTS or CVAT; more keys: docs/your_data.md
  Without it, topics are guessed from the first bag, printed as such a file, and on a terminal asked about.

Complete bags are kept, so an interrupted run goes on where it stopped, and bags can be added later."""
EXAMPLE = """\
examples:
  vexkd-bag-to-nuscenes drives/* --out data --version mine
  vexkd-bag-to-nuscenes drives/* --out data --version mine --sensors sensors.yaml --jobs 4 --val tuesday-1,tuesday-2
then:
  vexkd prepare data --version mine"""


def convert(
    bags: Sequence[Path],
    out: Path,
    version: str,
    wiring: Wiring | None = None,
    settings: Settings | None = None,
    val: Sequence[str] | None = None,
    jobs: int = 1,
) -> dict[str, list[str]]:
    """Write a dataset of the bags to `out`, or add them to the one of that version; return the scenes of its splits.

    wiring: None takes that of the dataset, or guesses it from the first bag. val: as `make_splits` takes it. jobs: bags
    at a time, each in a process of its own. UserError for a bag that cannot be converted, when all others have been.
    """
    out, settings = Path(out), settings or Settings()
    named = _named(bags)
    work = out / WORK / version
    _check_place(out, version, work)
    existed = out.exists()
    try:
        with locked(
            work / "lock",
            f"{out}: another bag_to_nuscenes is writing {version} there; wait for it or choose another --out",
        ):
            wiring = _agreed(work, bags, wiring, settings)
            todo = [
                BagJob(bag, name, out, work, version, wiring, settings, shows_progress=jobs == 1)
                for name, bag in named.items()
            ]
            missing = [job for job in todo if not _is_kept(job)]
            results = in_parallel(_write_or_say_why_not, missing, min(jobs, max(len(missing), 1)), option="--jobs")
            problems = []
            for problem in progress(results, "convert", len(missing), "bags") if jobs > 1 else results:
                problems += [problem] if problem else []
                if problem and len(missing) > 1:
                    print(problem, file=sys.stderr, flush=True)
            if not any((work / "bags").glob("*.json")):
                raise UserError(problems[0])
            splits = assemble(out, version, work, wiring, val)
    finally:
        _remove_if_empty(out, work, existed)
    if problems:
        raise UserError(problems[0] + (f" (and {len(problems) - 1} bags more, see above)" if problems[1:] else ""))
    return splits


def _named(bags: Sequence[Path]) -> dict[str, Path]:
    """Return the bags by the names of their scenes."""
    named: dict[str, Path] = {}
    for bag in bag_paths(bags):
        name = bag.resolve().name if bag.is_dir() else bag.stem
        if not name or name.startswith("."):
            raise UserError(f"{bag}: no name for a scene; rename the bag")
        if name in named:
            raise UserError(f"{bag}: is called {name} as {named[name]} is; rename one, for a scene has its bag's name")
        named[name] = bag
    if not named:
        raise UserError("no bag was given; give their folders or files")
    return named


def _check_place(out: Path, version: str, work: Path) -> None:
    if Path(version).name != version or version.startswith("."):
        raise UserError(f"--version {version}: must be the name of a folder")
    if (out / version).exists() and not work.is_dir():
        raise UserError(f"{out / version}: holds tables of another origin; choose another --version or --out")


def _agreed(work: Path, bags: Sequence[Path], wiring: Wiring | None, settings: Settings) -> Wiring:
    """Return the wiring of a dataset, which is that of its first run; UserError where another is wanted."""
    path = work / MANIFEST
    try:
        begun = json.loads(path.read_text())
    except FileNotFoundError:
        begun = None
    if begun is not None:
        known = parse_section(Wiring, begun["wiring"], str(path), "sensors")
        if begun["settings"] != settings.to_dict():
            raise UserError(f"{path}: was begun with other options, {begun['settings']}; choose another --version")
        if wiring is not None and completed(wiring, bags[0]) != known:
            raise UserError(f"{path}: was begun with other --sensors; choose another --version")
        return known
    chosen = guess_wiring(bags[0]) if wiring is None else completed(wiring, bags[0])
    write_json(path, {"wiring": chosen.model_dump(mode="json"), "settings": settings.to_dict()})
    return chosen


def _is_kept(job: BagJob) -> bool:
    if read_record(job) is None:
        return False
    print(f"{job.name}: complete, kept", file=sys.stderr)
    return True


def _write_or_say_why_not(job: BagJob) -> str:
    """Write a bag's part; return why there is none, or ''."""
    try:
        write_bag(job)
    except UserError as error:
        return str(error)
    return ""


def _remove_if_empty(out: Path, work: Path, existed: bool) -> None:
    """Leave nothing behind where no bag was converted."""
    if not any((work / "bags").glob("*.json")):
        shutil.rmtree(work, ignore_errors=True)
        with suppress(OSError):  # what is not empty stays
            work.parent.rmdir()
            if not existed:
                out.rmdir()


def _confirmed(bag: Path, yes: bool) -> Wiring:
    """Guess the wiring, print it as a file for --sensors, and on a terminal ask whether it is right."""
    wiring = guess_wiring(bag)
    print(f"# guessed from {bag}; correct it in a file for --sensors\n{dump_wiring(wiring)}", flush=True)
    if (
        not yes
        and sys.stdin.isatty()
        and input("Are these the sensors? [Y/n] ").strip().lower() not in ("", "y", "yes")
    ):
        raise UserError(
            "nothing was written; save the lines above to a file, correct it, and give it as --sensors FILE"
        )
    return wiring


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser("vexkd-bag-to-nuscenes", HELP, EXAMPLE)
    parser.add_argument("bags", nargs="+", type=Path, metavar="BAG", help="folder or file of a bag")
    parser.add_argument("--out", required=True, type=Path, metavar="DATA", help="folder of the dataset")
    parser.add_argument("--version", required=True, metavar="NAME", help="name of the folder of its tables")
    parser.add_argument("--sensors", type=Path, metavar="FILE", help="which topic is which sensor (default: guessed)")
    parser.add_argument("--yes", action="store_true", help="do not ask whether guessed sensors are right")
    parser.add_argument(
        "--rate", type=positive_number, default=Settings.rate, metavar="HZ", help="keyframes a second (default: 2)"
    )
    parser.add_argument(
        "--scene-length", type=positive_number, metavar="S", help="cut longer bags into scenes of so many seconds"
    )
    parser.add_argument("--val", type=names, metavar="NAMES", help="bags for evaluation (default: the last fifth)")
    parser.add_argument(
        "--images", choices=("jpg", "png"), default=PictureFormat.suffix, help="format of raw or rectified images"
    )
    parser.add_argument(
        "--quality", type=_quality, default=PictureFormat.quality, metavar="N", help="of their JPEG (default: 95)"
    )
    parser.add_argument("--jobs", type=positive_int, default=1, metavar="N", help="bags at a time (default: 1)")

    def command(arguments: argparse.Namespace) -> None:
        begun = (arguments.out / WORK / arguments.version / MANIFEST).is_file()
        if arguments.sensors:
            wiring = read_wiring(arguments.sensors)
        else:
            wiring = None if begun else _confirmed(bag_paths(arguments.bags)[0], arguments.yes)
        settings = Settings(arguments.rate, arguments.scene_length, PictureFormat(arguments.images, arguments.quality))
        splits = convert(
            bag_paths(arguments.bags), arguments.out, arguments.version, wiring, settings, arguments.val, arguments.jobs
        )
        counts = ", ".join(f"{len(scenes)} of {split}" for split, scenes in splits.items())
        print(
            f"{arguments.out}: scenes: {counts} ({arguments.version}/{SPLITS}); next: vexkd prepare {arguments.out} "
            f"--version {arguments.version}"
        )

    return run_command(parser, command, argv)


def _quality(text: str) -> int:
    value = positive_int(text)
    if value > 100:
        raise argparse.ArgumentTypeError(f"{text} is more than 100")
    return value


if __name__ == "__main__":
    sys.exit(main())
