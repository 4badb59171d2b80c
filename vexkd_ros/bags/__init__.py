"""Bags: nuScenes to bags, player, recorder, evaluator and view, on `rosbags`; none of them needs rosbag2."""
