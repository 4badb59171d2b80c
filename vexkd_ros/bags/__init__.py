"""nuScenes → bag, player, recorder and evaluator, on `rosbags`: none of them needs rosbag2."""
