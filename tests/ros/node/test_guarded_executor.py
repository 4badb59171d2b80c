"""Messages and requests that rclpy itself cannot convert: each is dropped with a reason, and the node goes on."""

import threading
from collections.abc import Iterator

import pytest
import rclpy
from lifecycle_msgs.srv import GetState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import Empty, String
from support.clock import wait_for

from vexkd_ros.node_process import GuardedExecutor, receive


class Unreadable:
    """Type that no message can be converted to, as where memory does not suffice."""

    Request: type


Unreadable.Request = Unreadable


@pytest.fixture
def context() -> Iterator[Context]:
    context = Context()
    rclpy.init(context=context)
    yield context
    rclpy.shutdown(context=context)


@pytest.fixture
def node(context: Context) -> Iterator[Node]:
    """Run by the guarded executor in a thread."""
    node, executor = rclpy.create_node("guarded", context=context), GuardedExecutor(context=context)
    executor.add_node(node)
    receiver = threading.Thread(target=receive, args=(executor, node))
    receiver.start()
    yield node
    executor.shutdown()
    receiver.join()
    node.destroy_node()


@pytest.fixture
def other(context: Context) -> Iterator[Node]:
    node = rclpy.create_node("other", context=context)
    yield node
    node.destroy_node()


@pytest.mark.parametrize("kind", ["message on", "request to"])
def test_what_cannot_be_converted_leaves_the_other_inputs_of_the_node_alone(
    node: Node, other: Node, kind: str, capfd: pytest.CaptureFixture
) -> None:
    heard: list[str] = []
    node.create_subscription(String, "heard", lambda message: heard.append(message.data), 10)
    talk = other.create_publisher(String, "heard", 10)
    if kind == "message on":
        node.create_subscription(Empty, "unreadable", print, 10).msg_type = Unreadable
        send = other.create_publisher(Empty, "unreadable", 10)
        wait_for(send.get_subscription_count, "the node to listen")
        send.publish(Empty())
    else:
        node.create_service(GetState, "/unreadable", print).srv_type = Unreadable
        client = other.create_client(GetState, "unreadable")
        assert client.wait_for_service(30)
        client.call_async(GetState.Request())
    wait_for(lambda: f"a {kind} /unreadable could not be read" in capfd.readouterr().err, "the reason in the log")
    wait_for(talk.get_subscription_count, "the node to listen")
    talk.publish(String(data="and so on"))
    wait_for(lambda: heard == ["and so on"], "the next message")


def test_an_executor_of_rclpy_would_leave_the_node_deaf(context: Context) -> None:
    """State the fault of rclpy that the guard is for; the guard can go when this fails."""
    node, executor = rclpy.create_node("unguarded", context=context), SingleThreadedExecutor(context=context)
    executor.add_node(node)
    node.create_subscription(Empty, "unreadable", print, 10).msg_type = Unreadable
    publisher = node.create_publisher(Empty, "unreadable", 10)
    wait_for(publisher.get_subscription_count, "itself")
    publisher.publish(Empty())
    with pytest.raises(AttributeError):
        while True:
            executor.spin_once(timeout_sec=1.0)
    assert not node.default_callback_group.can_execute(next(node.subscriptions))
    executor.shutdown()
    node.destroy_node()
