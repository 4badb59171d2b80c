"""Sensor rig: calibration and firing times vary by scene, close to nuScenes' design."""

import numpy as np
import pytest

from vexkd_model.synth.rig import camera_stamp_us, draw_rig

CHANNELS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
STAMP_US = 1_530_000_000_000_000


def test_the_designed_rig_is_that_of_nuscenes():
    rig = draw_rig(np.random.default_rng(0), spread=0.0)
    assert [camera.channel for camera in rig.cameras] == list(CHANNELS)
    front, back = rig.cameras[0], rig.cameras[CHANNELS.index("CAM_BACK")]
    assert front.base_from_camera[:3, 2] == pytest.approx([1.0, 0.0, 0.0])  # looks ahead
    assert front.base_from_camera[:3, 1] == pytest.approx([0.0, 0.0, -1.0])  # its y points down
    assert back.base_from_camera[:3, 2] == pytest.approx([-1.0, 0.0, 0.0])
    left = rig.cameras[CHANNELS.index("CAM_FRONT_LEFT")].base_from_camera[:3, 2]
    assert np.degrees(np.arctan2(left[1], left[0])) == pytest.approx(55.0)
    assert rig.base_from_lidar[:3, :3] @ [0.0, 1.0, 0.0] == pytest.approx([1.0, 0.0, 0.0])  # LiDAR: y ahead, x right
    assert front.intrinsics(800, 450) == pytest.approx(np.array([[630.0, 0, 400], [0, 630, 225], [0, 0, 1]]))


def test_calibrations_differ_from_scene_to_scene_by_centimetres_and_a_degree():
    design = draw_rig(np.random.default_rng(0), spread=0.0)
    rigs = [draw_rig(np.random.default_rng(i)) for i in range(60)]
    for pose_of in (
        lambda rig: rig.base_from_lidar,
        *(lambda rig, i=i: rig.cameras[i].base_from_camera for i in range(6)),
    ):
        wanted, poses = pose_of(design), np.array([pose_of(rig) for rig in rigs])
        assert poses[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1) == pytest.approx(np.array([np.eye(3)] * 60))
        shift = np.linalg.norm(poses[:, :3, 3] - wanted[:3, 3], axis=1)
        turn = np.degrees(np.arccos((np.einsum("nij,ij->n", poses[:, :3, :3], wanted[:3, :3]) - 1) / 2))
        assert 0.02 < np.median(shift) < 0.05
        assert shift.max() < 0.08
        assert 0.2 < np.median(turn) < 1.0
        assert turn.max() < 2.0
    focal = np.array([rig.cameras[0].focal for rig in rigs])
    assert focal.std() == pytest.approx(0.01 * 1260, rel=0.3)


def test_cameras_fire_in_the_order_in_which_the_lidar_turns_and_at_most_40_ms_before_its_stamp():
    rng = np.random.default_rng(0)
    rig = draw_rig(rng)
    for _ in range(50):
        stamps = {camera.channel: camera_stamp_us(camera, STAMP_US, rng) for camera in rig.cameras}
        assert all(-40_000 <= stamp - STAMP_US <= 0 for stamp in stamps.values())
        assert sorted(stamps, key=stamps.get) == [
            "CAM_FRONT_LEFT",
            "CAM_FRONT",
            "CAM_FRONT_RIGHT",
            "CAM_BACK_RIGHT",
            "CAM_BACK",
            "CAM_BACK_LEFT",
        ]
