"""The parameters of student_node: what each means, its default and its limits, in one place."""

from dataclasses import dataclass, fields, replace

import numpy as np
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from vexkd_model.config import ModelConfig
from vexkd_model.deploy.predictor import RUNTIMES, Runtime
from vexkd_model.errors import UserError
from vexkd_model.types import PRECISIONS, Precision
from vexkd_ros.health.node_health import Limits
from vexkd_ros.inputs.assembly import InputSettings

RELIABILITIES = ("best_effort", "reliable")
TRANSPORTS = ("raw", "compressed")
POINTS = "points"
DETECTION_OUTPUTS = ("detections", "markers", "detected_objects")
MAP_OUTPUTS = ("map", "map_image", "map_labels")
OUTPUTS = DETECTION_OUTPUTS + MAP_OUTPUTS
DEFAULT_OUTPUTS = ("detections", "markers", *MAP_OUTPUTS)
OWN_NAMES = [""]  # ROS knows no empty list
FROM_CARD = -1.0
LIVE = ("score_threshold", "outputs")  # may change while a student is loaded; all others take effect on configuring


@dataclass(frozen=True)
class StudentParameters:
    """Values of one configuration of the node, field by field the ROS parameters of the same names."""

    model: str
    device: str
    precision: Precision
    runtime: Runtime
    score_threshold: float
    base_frame: str
    odom_frame: str
    tf_timeout: float
    max_sweep_gap: float
    intensity_field: str
    intensity_scale: float
    input_reliability: str
    threads: int
    permitted_latency: float
    cameras: list[str]
    image_transport: str
    camera_tolerance: float
    camera_deadline: float
    use_reference: bool
    outputs: list[str]
    permitted_age: float
    permitted_sync_error: float
    stale_after: float

    def __post_init__(self) -> None:
        if not self.model:
            raise UserError("parameter model: no student package given; set it with -p model:=FOLDER")
        for name, known in (
            ("precision", PRECISIONS),
            ("runtime", RUNTIMES),
            ("input_reliability", RELIABILITIES),
            ("image_transport", TRANSPORTS),
        ):
            if getattr(self, name) not in known:
                raise UserError(f"parameter {name}: '{getattr(self, name)}' is neither {' nor '.join(known)}")
        if not self.base_frame or self.base_frame == self.odom_frame:
            raise UserError(f"parameter base_frame: '{self.base_frame}' must name a frame other than odom_frame")

    def inputs(self, student: ModelConfig) -> list[str]:
        """Name what the student reads: the cameras that are there, or points."""
        return [name for name in self.cameras if name] if student.camera else [POINTS]

    def limits(self) -> Limits:
        """Return the limits beyond which /diagnostics warns."""
        return Limits(self.permitted_latency, self.permitted_age or None, self.stale_after, self.permitted_sync_error)

    def input_settings(self) -> InputSettings:
        """Return the parameters of the way from messages to Frames."""
        return InputSettings(**{field.name: getattr(self, field.name) for field in fields(InputSettings)})


def declare_parameters(node: Node) -> None:
    """Declare all. Raises rclpy's ParameterException for an override of a wrong type or beyond its limits."""
    inputs = InputSettings()
    node.declare_parameter("autostart", True, _about("Configure and activate at start, without a lifecycle manager."))
    node.declare_parameter("model", "", _about("Folder of the student package, as `vexkd export` wrote it."))
    node.declare_parameter(
        "device", "auto", _about("Where the student runs: cpu, cuda or cuda:N; auto: cuda where it can be used.")
    )
    node.declare_parameter(
        "precision",
        PRECISIONS[0],
        _about(
            "Precision of the student's convolutions; auto: bfloat16 where the device has instructions for it, or "
            "float32.",
            constraints=" or ".join(PRECISIONS),
        ),
    )
    node.declare_parameter(
        "runtime",
        RUNTIMES[0],
        _about(
            "What runs the student's convolutions; auto: the fastest that is installed: on a CPU a graph, if the "
            "package has one, or PyTorch.",
            constraints=" or ".join(RUNTIMES),
        ),
    )
    node.declare_parameter(
        "score_threshold",
        FROM_CARD,
        _between(
            FROM_CARD,
            1.0,
            "Publish detections that score at least this; -1.0: the threshold of each class in the student's card; "
            "0.0: all that the student gives, as the official metrics want. May change at any time.",
        ),
    )
    node.declare_parameter("base_frame", inputs.base_frame, _about("Ego frame of the student and of every output."))
    node.declare_parameter(
        "odom_frame", inputs.odom_frame, _about("Frame fixed to the world, to bring older sweeps to now.")
    )
    node.declare_parameter("tf_timeout", inputs.tf_timeout, _between(0.0, 1.0, "Longest wait for a transform [s]."))
    node.declare_parameter(
        "max_sweep_gap",
        inputs.max_sweep_gap,
        _between(0.01, 10.0, "Clouds further apart than this are not accumulated [s]."),
    )
    node.declare_parameter(
        "intensity_field",
        inputs.intensity_field,
        _about("Field of the clouds that is read as intensity: reflectivity, for example."),
    )
    node.declare_parameter(
        "intensity_scale",
        inputs.intensity_scale,
        _between(
            1e-6,
            1e6,
            "Factor that brings that field to the intensity of the training: 255.0 where it runs from 0 to 1.",
        ),
    )
    node.declare_parameter(
        "input_reliability",
        RELIABILITIES[0],
        _about("Reliability that is requested of clouds and images.", constraints=" or ".join(RELIABILITIES)),
    )
    node.declare_parameter(
        "threads",
        inputs.threads,
        ParameterDescriptor(
            description="CPU threads of the inference; 0 leaves it to PyTorch.",
            integer_range=[IntegerRange(from_value=0, to_value=256, step=1)],
        ),
    )
    node.declare_parameter(
        "permitted_latency", 0.2, _between(0.001, 10.0, "Median latency beyond which /diagnostics warns [s].")
    )
    node.declare_parameter(
        "permitted_age",
        0.0,
        _between(
            0.0,
            60.0,
            "Age of an input at its arrival beyond which /diagnostics warns [s]; 0.0 for replays, never warns.",
        ),
    )
    node.declare_parameter(
        "permitted_sync_error",
        0.05,
        _between(0.001, 1.0, "Distance of images from their moment beyond which /diagnostics warns [s]."),
    )
    node.declare_parameter(
        "stale_after",
        2.0,
        _between(0.1, 60.0, "An input that is silent for so long counts as stopped: STALE in /diagnostics [s]."),
    )
    node.declare_parameter(
        "outputs",
        [*map(str, DEFAULT_OUTPUTS)],
        _about(
            "What is published, of those that the student gives. May change at any time.",
            constraints=f"some of {', '.join(OUTPUTS)}",
        ),
    )
    node.declare_parameter(
        "cameras",
        OWN_NAMES,
        _about(
            "Namespace of each camera of the student, in the student's order: NAME/image, NAME/camera_info; an "
            "empty name for one that the vehicle lacks. [''] stands for the student's own names in lower case, "
            "cam_front_left …"
        ),
    )
    node.declare_parameter(
        "image_transport",
        TRANSPORTS[0],
        _about("Type of the images: NAME/image, or NAME/image/compressed.", constraints=" or ".join(TRANSPORTS)),
    )
    node.declare_parameter(
        "camera_tolerance",
        inputs.camera_tolerance,
        _between(0.001, 1.0, "An image belongs to a moment if their stamps differ by at most this, either way [s]."),
    )
    node.declare_parameter(
        "camera_deadline",
        inputs.camera_deadline,
        _between(
            0.0,
            10.0,
            "Longest wait for the other cameras after the first image, or the reference, of a moment [s]; goes "
            "on with those that are there.",
        ),
    )
    node.declare_parameter(
        "use_reference",
        inputs.use_reference,
        _about(
            "Predict for the stamps of the topic `reference` (std_msgs/Header), a camera trigger for example; else for "
            "the mean stamp of the images."
        ),
    )


def least_scores(score_threshold: float, of_card: np.ndarray | None) -> float | np.ndarray:
    """Resolve the parameter: one number, or the card's thresholds, (10,) by class, if it states any."""
    if score_threshold < 0:
        return 0.0 if of_card is None else of_card
    return score_threshold


def read_parameters(node: Node) -> StudentParameters:
    """Read the parameters. Raises UserError where a value cannot be."""
    return StudentParameters(
        **{field.name: node.get_parameter(field.name).value for field in fields(StudentParameters)}
    )


def check_student(parameters: StudentParameters, student: ModelConfig) -> StudentParameters:
    """Complete the parameters by what only the student knows. Raises UserError where they do not fit it."""
    if student.fusion is not None:
        raise UserError(f"{parameters.model}: fuses LiDAR and cameras; this node takes students of one of them")
    if student.camera is None:
        return parameters
    names = student.camera.images.cameras
    if parameters.cameras == OWN_NAMES:
        return replace(parameters, cameras=[name.lower() for name in names])
    if len(parameters.cameras) != len(names):
        raise UserError(
            f"parameter cameras: names {len(parameters.cameras)} cameras, {parameters.model} reads "
            f"{len(names)}: {', '.join(names)}; write '' for one that the vehicle lacks"
        )
    return parameters


def _about(description: str, constraints: str = "") -> ParameterDescriptor:
    return ParameterDescriptor(description=description, additional_constraints=constraints)


def _between(low: float, high: float, description: str) -> ParameterDescriptor:
    return ParameterDescriptor(
        description=description, floating_point_range=[FloatingPointRange(from_value=low, to_value=high)]
    )
