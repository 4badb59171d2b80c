"""Check that frames are connected, at the very stamps of the messages that need them."""

from collections.abc import Sequence

from vexkd_model.findings import FAIL, OK, WARN, Finding
from vexkd_ros.doctor.observation import TF, Heard, Observation
from vexkd_ros.health.qos_match import QosRequest, qos_mismatch
from vexkd_ros.inputs.errors import TransformUnavailable
from vexkd_ros.inputs.poses import HISTORY_NS

COMING_NS = 200_000_000  # the newest messages may still wait for theirs


def check_transform_topics(seen: Observation, tf: str) -> list[Finding]:
    """Check /tf and /tf_static themselves, by whatever name."""
    findings = [
        Finding(FAIL, topic, problem)
        for topic, latched in ((tf, False), (f"{tf}_static", True))
        for offer in seen.offers.get(topic, ())
        if (problem := qos_mismatch(topic, offer, QosRequest(TF, True, latched)))
    ]
    findings += [Finding(WARN, tf, f"{problem} ({count} times)") for problem, count in seen.transform_problems.items()]
    others = [topic for topic in seen.of_type(TF) if not topic.endswith("_static")]
    if tf not in seen.types and others:
        findings.append(
            Finding(
                WARN,
                tf,
                f"nobody publishes it; there are transforms on {', '.join(others)}: look at "
                f"them with --tf {others[0]}, and remap the node, -r /tf:={others[0]} "
                f"-r /tf_static:={others[0]}_static",
            )
        )
    if seen.static_lost:
        findings.append(
            Finding(
                WARN,
                f"{tf}_static",
                "several broadcasters, recorded with a history that does not "
                f"hold them all: `ros2 bag play` loses {', '.join(seen.static_lost)} for nodes that "
                "start later; play it with vexkd-bag-player, or start the node first",
            )
        )
    return findings


def check_conflicts(seen: Observation, tf: str) -> list[Finding]:
    """Name publishers that contradict one another about frames that were asked for: call it last."""
    return [Finding(WARN, tf, conflict.text) for conflict in seen.transforms.conflicts()]


def check_mounting(seen: Observation, heard: Heard, base: str) -> list[Finding]:
    """Check the transform from a sensor's frame to the vehicle's, at its stamps."""
    frame = heard.frames.most_common(1)[0][0]
    found, total, why = _answered(seen, base, frame, heard.stamps)
    if not found:
        return [Finding(FAIL, f"{base} → {frame}", why)]
    if found < total:
        return [Finding(WARN, f"{base} → {frame}", f"known at {found} of {total} stamps of {heard.topic}: {why}")]
    return [Finding(OK, f"{base} → {frame}", f"known at all {total} stamps of {heard.topic}")]


def check_odometry(seen: Observation, heard: Heard, base: str, odom: str, use: str) -> list[Finding]:
    """Check the transform from odometry to the vehicle, at a sensor's stamps.

    use: what a student lacks without it.
    """
    found, total, why = _answered(seen, odom, base, heard.stamps)
    if found == total:
        return [Finding(OK, f"{odom} → {base}", f"known at all {total} stamps of {heard.topic}")]
    share = f"known at {found} of {total} stamps of {heard.topic}; without it {use}: " if found else f"{use}: "
    return [Finding(WARN, f"{odom} → {base}", share + why)]


def _answered(seen: Observation, target: str, source: str, stamps: Sequence[int]) -> tuple[int, int, str]:
    """Count the stamps that have an answer and those that were asked for; say why the last without one has none.

    Only those are asked for that the buffer still remembers and that late transforms have had their time for.
    """
    newest = max(stamps)
    asked = [stamp for stamp in stamps if newest - HISTORY_NS < stamp <= newest - COMING_NS] or [newest]
    found, why = 0, ""
    for stamp in asked:
        try:
            seen.transforms.lookup(target, source, stamp)
            found += 1
        except TransformUnavailable as error:
            why = str(error)
    return found, len(asked), why
