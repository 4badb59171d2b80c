"""Playing from the middle of a bag: real player and recorder over real DDS."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from rosbags.highlevel import AnyReader

from vexkd_ros.bags.nuscenes_to_bag import convert


def stamps(bag: Path, topic: str) -> list[int]:
    """Header stamps of a topic; of /tf_static, of its first transform."""
    found = []
    with AnyReader([bag]) as reader:
        for connection, _, data in reader.messages(c for c in reader.connections if c.topic == topic):
            message = reader.deserialize(data, connection.msgtype)
            stamp = (message.transforms[0] if topic == "/tf_static" else message).header.stamp
            found.append(stamp.sec * 10**9 + stamp.nanosec)
    return found


def test_from_the_middle_static_transforms_still_come_and_nothing_else_that_is_earlier(
    tiny_dataset: Path, tmp_path: Path, start: Callable[..., subprocess.Popen]
) -> None:
    bag = convert(tiny_dataset, "v1.0-mini", tmp_path / "bags")[0]
    recorder = start("bags.recorder", "/lidar/points", "/tf_static", "--out", tmp_path / "recorded")
    player = start("bags.player", bag, "--start-offset", 0.18, "--wait-for-subscribers", "/lidar/points", "/tf_static")
    _, said = player.communicate(timeout=60)
    assert player.returncode == 0, said
    recorder.send_signal(signal.SIGINT)
    recorder.communicate(timeout=30)
    clouds = stamps(bag, "/lidar/points")
    assert stamps(tmp_path / "recorded", "/lidar/points") == [s for s in clouds if s >= clouds[0] + 180_000_000]
    assert stamps(tmp_path / "recorded", "/tf_static") == stamps(bag, "/tf_static")

    player = start("bags.player", bag, "--start-offset", 60)
    _, said = player.communicate(timeout=60)
    assert player.returncode == 1 and f"vexkd-bag-player: {bag}: lasts 0.4 s; start nearer to its beginning" in said
