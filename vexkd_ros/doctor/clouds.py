"""Check a LiDAR's clouds: their content, and whether the sensor is like the one of the training."""

from typing import Any

import numpy as np

from vexkd_model.data.sweeps import Sweep
from vexkd_model.findings import FAIL, OK, WARN, Finding
from vexkd_model.sensor_check.monitor import SensorMonitor
from vexkd_ros.doctor.observation import Heard, Observation
from vexkd_ros.inputs.errors import CloudError, TransformUnavailable
from vexkd_ros.inputs.pointcloud import Cloud, read_cloud


def check_clouds(seen: Observation, heard: Heard, base: str, monitor: SensorMonitor | None) -> list[Finding]:
    """Check the clouds heard on a PointCloud2 topic; without a monitor only what any student needs."""
    messages = heard.messages()
    clouds: list[tuple[Any, Cloud]] = []
    problems: dict[str, None] = {}
    for message in messages:
        try:
            clouds.append((message, read_cloud(message)))
        except CloudError as error:
            problems[str(error)] = None
    findings = [Finding(FAIL, heard.topic, problem) for problem in problems]
    if clouds:
        findings += _contents(heard.topic, clouds)
    if monitor is not None:
        for message, cloud in clouds:
            _show(seen, monitor, message, cloud, base)
    return findings


def _contents(topic: str, clouds: list[tuple[Any, Cloud]]) -> list[Finding]:
    message, newest = clouds[-1]
    fields = ", ".join(field.name for field in message.fields)
    points = int(np.median([len(cloud.points) for _, cloud in clouds]))
    findings = [Finding(OK, topic, f"{points} points a cloud, fields {fields}")]
    if not newest.has_intensity:
        findings.append(
            Finding(
                WARN,
                topic,
                f"no field intensity, only {fields}: let the driver publish it; students are trained with it",
            )
        )
    empty = sum(not len(cloud.points) for _, cloud in clouds)
    if empty:
        findings.append(Finding(WARN, topic, f"{empty} of {len(clouds)} clouds have no finite points: see the driver"))
    return findings


def _show(seen: Observation, monitor: SensorMonitor, message: Any, cloud: Cloud, base: str) -> None:
    stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
    try:
        mount = seen.transforms.lookup(base, message.header.frame_id, stamp)
    except TransformUnavailable:  # said where frames are checked
        return
    monitor.see_cloud(Sweep(cloud.points, stamp, mount, np.eye(4)))
