"""Support that several folders of tests share: a tiny nuScenes dataset, a rig of sensors, a clock, processes."""
