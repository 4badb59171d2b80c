"""Mutated messages of every input type: each is used or refused with a reason, and nothing escapes.

The long run is benchmarks/fuzz_messages.py.
"""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.hostile import HEAD, KINDS, Vehicle, mutated

EDITS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, HEAD) | st.integers(0, 10**6), st.integers(0, 2**31)),
    min_size=1,
    max_size=6,
)
INPUTS = (
    "cloud",
    "image",
    "image 16 bits",
    "image planar",
    "jpeg",
    "png",
    "camera_info",
    "reference",
    "tf",
    "tf_static",
    "detections",
    "ground_truth",
)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Vehicle]:
    receiver = Vehicle()
    yield receiver
    receiver.close()


def test_every_input_is_tried_and_its_seed_is_used(receiver: Vehicle) -> None:
    assert tuple(receiver.seeds) == INPUTS
    for name, seed in receiver.seeds.items():
        before = len(receiver.refused)
        receiver.take(name, seed)
        # The receiver's images are newer than the stamp that it is asked about: said, and no fault of the message.
        refused = [
            reason
            for reason in receiver.refused[before:]
            if "front: no " not in reason and reason != "no camera has a usable image"
        ]
        assert not refused, name


@pytest.mark.parametrize("name", INPUTS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS)
def test_a_mutated_message_is_used_or_refused(receiver: Vehicle, name: str, edits: list[tuple[str, int, int]]) -> None:
    receiver.take(name, mutated(receiver.seeds[name], edits))
