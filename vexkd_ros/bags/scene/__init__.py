"""Messages of one nuScenes scene: a module a kind of message, and `timeline`, which merges them by time.

Frames: odom (nuScenes' global frame) → base_link (its ego frame) → lidar_top, cam_front, radar_front, …
"""
