"""Reception of messages: one guard between whatever arrives and the node, which no message may end."""

import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription

from vexkd_ros.inputs.errors import InputError

LAST_STAMP_NS = (2**31 - 1) * 10**9 + 10**9 - 1  # the last that builtin_interfaces/Time can hold


def subscribe(
    node: Node,
    kind: type,
    topic: str,
    receive: Callable[[Any], None],
    refuse: Callable[[str, str], None],
    quality: QoSProfile,
    events: Any = None,
) -> Subscription:
    """Subscribe so that `receive` gets each message that can be read; `refuse` hears why another one cannot.

    refuse: takes the reason without numbers that vary, and in full. rclpy converts messages within its executor, which
    does not survive one that is damaged; here they come as bytes, to be converted under guard.
    """
    taken = partial(take_in, kind=kind, topic=node.resolve_topic_name(topic), receive=receive, refuse=refuse)
    return node.create_subscription(kind, topic, taken, quality, raw=True, event_callbacks=events)


def take_in(
    data: bytes, kind: type, topic: str, receive: Callable[[Any], None], refuse: Callable[[str, str], None]
) -> None:
    """Convert a serialised message and hand it to `receive`; tell `refuse` whatever goes wrong."""
    try:
        receive(_converted(data, kind, topic))
    except InputError as error:
        refuse(error.kind, str(error))
    except MemoryError:
        reason = f"out of memory: a message on {topic} cannot be read; free memory, or send fewer points or pixels"
        refuse(reason, reason)
    except Exception as error:  # one message must not silence the node, whatever is in it
        reason = f"a message on {topic} could not be used, {type(error).__name__}; see the log"
        refuse(reason, f"{reason}\n{traceback.format_exc()}")


def stamp_ns(stamp: Any) -> int:
    """Return a builtin_interfaces/Time in nanoseconds. Raises InputError for one that no clock has."""
    nanoseconds = int(stamp.sec) * 10**9 + int(stamp.nanosec)
    if not 0 <= nanoseconds <= LAST_STAMP_NS:
        raise InputError(
            "the message's stamp lies before 1970 or after 2038; set the sensor's clock",
            f"{stamp.sec} s, {stamp.nanosec} ns",
        )
    return nanoseconds


def _converted(data: bytes, kind: type, topic: str) -> Any:
    try:
        return deserialize_message(data, kind)
    except MemoryError:
        raise
    except Exception as error:  # the middleware's, and UnicodeDecodeError
        raise InputError(
            f"a message on {topic} is no {kind.__name__}; mend who publishes it, or what damages it on its way",
            f"{type(error).__name__}: {error}",
        ) from None
