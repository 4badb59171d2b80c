"""Quality of service of the topics in our bags, and its way from a bag's metadata to rclpy."""

from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

UNLIMITED = QosTime(9223372036, 854775807)  # RMW_DURATION_INFINITE: no deadline, infinite lifespan


def _profile(depth: int, durability: QosDurability) -> Qos:
    return Qos(QosHistory.KEEP_LAST, depth, QosReliability.RELIABLE, durability, UNLIMITED, UNLIMITED,
               QosLiveliness.AUTOMATIC, UNLIMITED, False)


# Reliable offers match best-effort subscribers too, and RViz's displays, which ask for reliable by default.
STREAM = _profile(10, QosDurability.VOLATILE)
TRANSFORMS = _profile(100, QosDurability.VOLATILE)
LATCHED = _profile(1, QosDurability.TRANSIENT_LOCAL)


def rclpy_profile(offered: list[Qos]) -> "QoSProfile":  # noqa: F821
    """The rclpy profile a player must offer: the recorded one, STREAM where a bag has none.

    Values that rclpy has no name for (unknown, system default) become reliable and volatile; a shallow history
    is deepened to ten so that a burst on replay is not lost.
    """
    from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

    qos = offered[0] if offered else STREAM
    latched = qos.durability is QosDurability.TRANSIENT_LOCAL
    best_effort = qos.reliability is QosReliability.BEST_EFFORT
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=qos.depth if latched else max(qos.depth, STREAM.depth),
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )
