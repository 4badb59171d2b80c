"""Detections and markers as bytes: those that rclpy makes of the same messages, but for what it leaves in paddings."""

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rclpy.serialization import deserialize_message
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from vexkd_model.types import DEVIATION_FIELDS, Boxes, Prediction
from vexkd_ros.outputs.cdr import agrees, detections_cdr, is_message, markers_cdr
from vexkd_ros.outputs.detections import detections_message
from vexkd_ros.outputs.markers import markers_message

PAIRS = [(detections_cdr, detections_message), (markers_cdr, markers_message)]
numbers = st.floats(-1e6, 1e6, width=32) | st.just(float("nan"))


@st.composite
def predictions(draw):
    count = draw(st.integers(0, 12) | st.just(101))  # ids of one to three digits
    boxes = draw(arrays(np.float32, (count, 9), elements=st.floats(-1e6, 1e6, width=32)))
    boxes[:, 7:9] = draw(arrays(np.float32, (count, 2), elements=numbers))
    labels = draw(arrays(np.int64, count, elements=st.integers(0, 9)))
    scores = draw(arrays(np.float32, count, elements=st.floats(0, 1, width=32)))
    deviations = st.floats(0, 100, width=32) | st.just(float("nan"))
    known = st.none() | arrays(np.float32, (count, len(DEVIATION_FIELDS)), elements=deviations)
    return Prediction(Boxes(boxes, labels), scores, None, None, 0, deviations=draw(known))


stamps = st.builds(Time, sec=st.integers(-(2**31), 2**31 - 1), nanosec=st.integers(0, 10**9 - 1))
headers = st.builds(
    Header, stamp=stamps, frame_id=st.sampled_from(["", "b", "ba", "bas", "base_link", "fahrzeug/größe"])
)


@pytest.mark.parametrize(("serialise", "message"), PAIRS)
@settings(deadline=None, max_examples=60)
@given(prediction=predictions(), header=headers)
def test_the_bytes_are_those_of_rclpy(serialise, message, prediction, header):
    assert is_message(serialise(prediction, header), message(prediction, header))


def test_other_messages_than_the_known_ones_are_noticed():
    def longer(prediction, header):
        message = markers_message(prediction, header)
        message.markers[0].text = "as if it had one more field"
        return message

    assert agrees(markers_cdr, markers_message) and not agrees(markers_cdr, longer)


def test_the_bytes_are_read_as_a_message():
    prediction = Prediction(
        Boxes(np.arange(18, dtype=np.float32).reshape(2, 9), np.array([0, 9])),
        np.array([0.75, 0.25], np.float32),
        None,
        None,
        0,
    )
    header = Header(frame_id="base_link")
    found = deserialize_message(detections_cdr(prediction, header), Detection3DArray)
    assert [one.results[0].hypothesis.class_id for one in found.detections] == ["car", "traffic_cone"]
    assert [one.bbox.size.x for one in found.detections] == [3.0, 12.0]
    assert len(deserialize_message(markers_cdr(prediction, header), MarkerArray).markers) == 5
