"""The node under a lifecycle manager: a real process, its services over real DDS."""

import hashlib
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters, SetParameters
from rclpy.parameter import Parameter, parameter_value_to_python
from support.calibrated import reliability

from vexkd_model.deploy.card import read_card
from vexkd_model.deploy.package import write_card

CONFIG = Path(__file__).parents[3] / "config" / "node" / "student_node.yaml"
CONFIGURE, ACTIVATE = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
DEACTIVATE, CLEANUP = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP
OF_EVERY_NODE = ("use_sim_time", "start_type_description_service")


class Manager:
    """Calls the node's services, one at a time."""

    def __init__(self, vehicle) -> None:
        self._vehicle = vehicle

    def call(self, kind: type, name: str, **fields: object) -> object:
        client = self._vehicle.node.create_client(kind, f"student_node/{name}")
        self._vehicle.wait_for(client.service_is_ready, f"service {name}")
        future = client.call_async(kind.Request(**fields))
        self._vehicle.wait_for(future.done, f"an answer of {name}")
        self._vehicle.in_executor(lambda: self._vehicle.node.destroy_client(client))
        return future.result()

    def change(self, *transitions: int) -> bool:
        return all(
            self.call(ChangeState, "change_state", transition=Transition(id=transition)).success
            for transition in transitions
        )

    @property
    def state(self) -> str:
        return self.call(GetState, "get_state").current_state.label

    def set(self, **values: object) -> list[str]:
        """Reasons of refusal, '' where set."""
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        return [result.reason for result in self.call(SetParameters, "set_parameters", parameters=parameters).results]


@pytest.fixture(scope="module")
def node(start_node):
    node = start_node(autostart="false", threads=1, input_reliability="reliable")
    yield node
    assert node.stop(signal.SIGTERM) == 0, node.log


@pytest.fixture
def manager(node, vehicle):
    """A manager of the unconfigured node; leaves it unconfigured, too."""
    manager = Manager(vehicle)
    yield manager
    if manager.state == "active":
        manager.change(DEACTIVATE)
    if manager.state == "inactive":
        manager.change(CLEANUP)


def test_the_parameter_file_names_every_parameter_with_its_default(manager):
    names = manager.call(ListParameters, "list_parameters").result.names
    names = [name for name in names if name not in OF_EVERY_NODE and not name.startswith("qos_overrides")]
    declared = dict(
        zip(
            names,
            map(parameter_value_to_python, manager.call(GetParameters, "get_parameters", names=names).values),
            strict=True,
        )
    )
    written = yaml.safe_load(CONFIG.read_text())["/**"]["ros__parameters"]
    started_with = {"autostart": False, "threads": 1, "input_reliability": "reliable", "precision": "float32"}
    started_with["model"] = declared["model"]
    assert declared == written | started_with
    described = manager.call(DescribeParameters, "describe_parameters", names=names).descriptors
    assert all(descriptor.description for descriptor in described)
    limited = {d.name for d in described if d.floating_point_range or d.integer_range}
    assert limited == {
        "score_threshold",
        "tf_timeout",
        "max_sweep_gap",
        "permitted_latency",
        "threads",
        "camera_tolerance",
        "camera_deadline",
        "permitted_age",
        "permitted_sync_error",
        "stale_after",
        "intensity_scale",
    }


def test_a_value_beyond_its_limits_is_refused(manager):
    assert "out of range" in manager.set(score_threshold=1.5)[0]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def corrupt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def add_key(path: Path) -> None:
    """An unknown key, and a card whose checksum fits, as if the package had been made so."""
    path.write_text(path.read_text() + "colour: blue\n")
    card = path.with_name("card.json")
    content = json.loads(card.read_text())
    card.write_text(json.dumps(content | {"config_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}))


@pytest.mark.parametrize(
    ("file", "damage", "named"),
    [
        ("weights.safetensors", truncate, "weights_sha256"),
        ("weights.safetensors", corrupt, "weights_sha256"),
        ("weights.safetensors", Path.unlink, "cannot be read"),
        ("model.yaml", corrupt, "config_sha256"),
        ("model.yaml", add_key, "colour"),
        ("card.json", truncate, "JSON"),
        ("", shutil.rmtree, "no such student package"),
    ],
    ids=[
        "truncated weights",
        "corrupted weights",
        "missing weights",
        "tampered configuration",
        "unknown key",
        "truncated card",
        "no folder",
    ],
)
def test_a_bad_package_leaves_the_node_unconfigured_and_named_in_diagnostics(
    manager, vehicle, package, tmp_path, file, damage, named
):
    shutil.copytree(package, tmp_path / "student")
    damage(tmp_path / "student" / file)
    assert manager.set(model=str(tmp_path / "student")) == [""]
    assert not manager.change(CONFIGURE)
    assert manager.state == "unconfigured"
    status = vehicle.status_that_says(f"not configured: {tmp_path / 'student' / file}")
    assert named in status.message
    assert "\n" not in status.message


def test_a_word_that_means_nothing_leaves_it_unconfigured(manager, vehicle, package):
    manager.set(model=str(package), input_reliability="perhaps")
    assert not manager.change(CONFIGURE)
    vehicle.status_that_says("parameter input_reliability: 'perhaps' is neither best_effort nor reliable")
    manager.set(input_reliability="reliable")


def test_it_answers_only_while_it_is_active(manager, vehicle, make_cloud, package):
    cloud = make_cloud(np.random.default_rng(2).uniform(-20, 20, (2000, 4)))
    assert manager.set(model=str(package)) == [""]
    assert manager.change(CONFIGURE)
    assert manager.state == "inactive"
    assert not vehicle.node.count_subscribers("points")
    for _ in range(2):  # twice: activating again works like the first time
        assert manager.change(ACTIVATE)
        vehicle.wait_until_node_listens()
        answered = vehicle.send(cloud)
        vehicle.result(answered)
        assert manager.change(DEACTIVATE)
        vehicle.wait_for(lambda: not vehicle.node.count_subscribers("points"), "the node to stop listening")
        unanswered = vehicle.send(cloud)
        vehicle.status_that_says("not active: inactive")
        assert unanswered not in vehicle.outputs["detections"]
    assert manager.change(CLEANUP)
    assert manager.state == "unconfigured"


def test_while_a_student_is_loaded_only_the_score_threshold_may_change(manager, vehicle, make_cloud, package):
    cloud = make_cloud(np.random.default_rng(2).uniform(-20, 20, (2000, 4)))
    assert manager.set(model=str(package)) == [""]
    assert manager.change(CONFIGURE, ACTIVATE)
    vehicle.wait_until_node_listens()
    assert "clean up the node" in manager.set(base_frame="other")[0]
    scores = [d.results[0].hypothesis.score for d in vehicle.result(vehicle.send(cloud)).detections]
    threshold = float(np.median(scores))
    assert manager.set(score_threshold=threshold) == [""]
    kept = [d.results[0].hypothesis.score for d in vehicle.result(vehicle.send(cloud)).detections]
    manager.set(score_threshold=0.0)
    assert kept == [score for score in scores if score >= threshold]
    assert 0 < len(kept) < len(scores)


def test_by_default_a_cards_thresholds_choose_what_is_published(node, manager, vehicle, make_cloud, package, tmp_path):
    cloud = make_cloud(np.random.default_rng(2).uniform(-20, 20, (2000, 4)))

    def published(**changed):
        assert set(manager.set(**changed)) == {""}
        if manager.state == "unconfigured":
            assert manager.change(CONFIGURE, ACTIVATE)
            vehicle.wait_until_node_listens()
        return [detection.results[0] for detection in vehicle.result(vehicle.send(cloud)).detections]

    scores = [found.hypothesis.score for found in published(model=str(package), score_threshold=-1.0)]
    assert manager.change(DEACTIVATE, CLEANUP)
    calibrated = shutil.copytree(package, tmp_path / "calibrated")
    worth, card = reliability(threshold=float(np.median(scores))), read_card(calibrated)[1]
    write_card(calibrated, card.model_copy(update={"reliability": worth}))
    chosen = published(model=str(calibrated))
    assert 0 < len(chosen) < len(scores) and all(found.pose.covariance[35] > 0 for found in chosen)
    assert min(found.hypothesis.score for found in chosen) >= np.median(scores)
    assert f"of the card: car {np.median(scores):.2f}, truck" in node.log and "/student_node/map/CLASS" in node.log
    assert len(published(score_threshold=0.0)) == len(scores)
    assert len(published(score_threshold=-1.0)) == len(chosen)


def test_outputs_change_from_one_frame_to_the_next(manager, vehicle, package, make_cloud):
    assert manager.set(model=str(package)) == [""]
    assert manager.change(CONFIGURE, ACTIVATE)
    vehicle.wait_until_node_listens()
    points = np.random.default_rng(0).uniform(-20, 20, (500, 4)).astype(np.float32)
    everything = vehicle.send(make_cloud(points))
    vehicle.result(everything, "map_image")
    assert manager.set(outputs=["markers"]) == [""]
    markers_only = vehicle.send(make_cloud(points))
    vehicle.result(markers_only, "markers")
    assert "there is no colours" in manager.set(outputs=["colours"])[0]
    assert manager.set(outputs=["detections", "markers", "map", "map_image", "map_labels"]) == [""]
    vehicle.result(vehicle.send(make_cloud(points)), "detections")
    assert everything in vehicle.outputs["detections"] and markers_only not in vehicle.outputs["detections"]


def test_shutdown_while_active_ends_in_finalized(manager, package):
    # Last, because there is no way back; the SIGTERM that follows must still end the process with 0.
    manager.set(model=str(package))
    assert manager.change(CONFIGURE, ACTIVATE, Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert manager.state == "finalized"


def test_a_manager_that_bonds_hears_an_active_node_and_its_goodbye(manager, vehicle, package):
    bond = pytest.importorskip("bond.msg", reason="bond and bondpy are not installed here")
    pytest.importorskip("bondpy.bondpy", reason="bondpy is not installed here")
    heard = []
    vehicle.node.create_subscription(bond.Status, "bond", heard.append, 50)
    manager.set(model=str(package))
    assert manager.change(CONFIGURE, ACTIVATE)
    vehicle.wait_for(lambda: [status for status in heard if status.active and status.id == "student_node"], "its bond")
    assert manager.change(DEACTIVATE, CLEANUP)
    vehicle.wait_for(lambda: not heard[-1].active, "its goodbye")
