"""Check that a dataset holds a model's inputs and targets, before the first step of a training or an evaluation."""

from vexkd_model.config import ModelConfig
from vexkd_model.data.index import FrameIndex, prepare_command
from vexkd_model.data.machine_made import machine_made_scenes
from vexkd_model.data.missing_sensor import Sensor
from vexkd_model.data.splits import NAMES
from vexkd_model.errors import UserError


def check_trainable(config: ModelConfig, index: FrameIndex) -> None:
    """Raise UserError for a model that the index holds no inputs or no targets for."""
    check_inputs(config, index)
    points = index.inventory.points
    if config.lidar is not None and points and 0 < points.intensity[1] <= 1 < config.lidar.intensity_max:
        raise UserError(
            f"{index.folder}: its intensities end at {points.intensity[1]:.3g}, and {config.name} expects 0 … "
            f"{config.lidar.intensity_max:g}, beside which they would vanish; --set lidar.intensity_max=1"
        )
    if config.detection is not None and not any(index.inventory.seen_boxes.values()):
        raise UserError(f"{index.folder}: {config.name} detects, but {_why_no_boxes(index)}, or --set detection=null")
    if config.segmentation is not None and not index.has_maps:
        raise UserError(
            f"{index.folder}: {config.name} segments maps, and {_where_maps_would_be(index)}; add them, or "
            "--set segmentation=null"
        )


def check_inputs(config: ModelConfig, index: FrameIndex) -> None:
    """Raise UserError for a model that the index holds no inputs for.

    A camera of the configuration that is in no frame counts as a missing input: its weights would never see an image.
    """
    if config.training_sweeps:
        _check_lidar(config, index)
    if config.camera is not None:
        wanted = config.camera.images.cameras
        missing = [name for name in wanted if name not in index.inventory.cameras]
        if missing:
            present = [name for name in wanted if name not in missing]
            cure = (
                f"--set 'camera.images.cameras=[{', '.join(present)}]' trains without"
                if present
                else "choose a model without cameras"
            )
            raise UserError(
                f"{index.folder}: {config.name} reads {', '.join(missing)}, which no frame has; {cure}, or "
                "name the dataset's cameras in names.json"
            )


def check_evaluable(
    config: ModelConfig, index: FrameIndex, drop: Sensor | None = None, predictions_alone: bool = False
) -> list[str]:
    """Raise UserError where a model's sensor or everything to score is missing; return remarks on the rest.

    drop: sensor that no frame shall have. predictions_alone: what the model detects is asked for, and no score needed.
    """
    if config.lidar is not None and drop != "lidar":
        _check_lidar(config, index)
    if config.camera is not None and drop != "camera":
        wanted = config.camera.images.cameras
        missing = [name for name in wanted if name not in index.inventory.cameras]
        if len(missing) == len(wanted):
            raise UserError(
                f"{index.folder}: {config.name} reads {', '.join(missing)}, which no frame has; choose a "
                "model without cameras, or name the dataset's cameras in names.json"
            )
        remarks = [f"{', '.join(missing)}: in no frame of {index.split}"] if missing else []
    else:
        remarks = []
    lacking = []
    if config.detection is not None and not any(index.inventory.boxes.values()):
        lacking.append("it has no boxes, so no detection metrics")
    if config.segmentation is not None and not index.has_maps:
        lacking.append(f"{_where_maps_would_be(index)}, so no map IoU")
    tasks = [task for task in (config.detection, config.segmentation) if task is not None]
    if len(lacking) == len(tasks) and not predictions_alone:
        cure = "; --submission FILE writes the detections alone" if config.detection else ""
        raise UserError(f"{index.folder}: nothing to score {config.name} with: {'; '.join(lacking)}{cure}")
    made = machine_made_scenes(index.dataroot, index.version) & set(index.column("scene"))
    if made and config.detection is not None:
        remarks.append(f"{index.folder}: a model made the boxes of {len(made)} scenes (vexkd autolabel), not people")
    return remarks + [f"{index.folder}: {reason}" for reason in lacking]


def _check_lidar(config: ModelConfig, index: FrameIndex) -> None:
    if index.inventory.points is None:
        reads = "reads the LiDAR" if config.lidar else "learns depths from the LiDAR"
        again = prepare_command(index.dataroot, index.version, index.folder.parent, "--force")
        cure = "" if config.lidar else ", or --set camera.view.depth_loss_weight=0"
        raise UserError(
            f"{index.folder}: {config.name} {reads}, of which no file is in {index.dataroot}; complete the "
            f"dataset and run `{again}`{cure}"
        )


def _why_no_boxes(index: FrameIndex) -> str:
    boxes, unused = sum(index.inventory.boxes.values()), index.inventory.unused
    if boxes:
        return (
            f"none of its {boxes} boxes holds a LiDAR point (num_lidar_pts of sample_annotation.json); write -1 "
            "there where it is not known"
        )
    if unused:
        return (
            f"its {sum(unused.values())} boxes are of no class ({', '.join(unused)}); give them one in "
            f"{index.dataroot / index.version / NAMES}"
        )
    return "it has no boxes; annotate it"


def _where_maps_would_be(index: FrameIndex) -> str:
    paths = [path for path in index.inventory.maps.values() if path]
    return f"there is no map expansion ({paths[0]} would be one)" if paths else "none of its map expansions can be read"
