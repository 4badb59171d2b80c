"""A node whose outputs nobody wants, over real DDS."""

import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus


def test_a_node_without_subscribers_computes_nothing_and_says_so_until_one_comes(
    start_node, package, silent_vehicle, make_cloud
):
    node = start_node(model=package, threads=1, input_reliability="reliable")
    silent_vehicle.wait_until_node_listens()
    cloud = make_cloud(np.random.default_rng(2).uniform(-20, 20, (2000, 4)))
    silent_vehicle.send(cloud)
    status = silent_vehicle.status_that_says("idle: nobody subscribes to an output")
    assert status.level == DiagnosticStatus.OK
    told = {item.key: item.value for item in status.values}
    assert (told["inputs"], told["outputs"], told["drops"]) == ("1", "0", "0")
    silent_vehicle.listen()
    silent_vehicle.wait_for(lambda: silent_vehicle.node.count_subscribers("student_node/detections"), "discovery")
    time.sleep(0.5)  # the node's side of it
    assert silent_vehicle.result(silent_vehicle.send(cloud)).detections
    assert node.stop() == 0, node.log
