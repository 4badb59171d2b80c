"""From bags to a dataset in the nuScenes schema: which topic is which sensor, what a bag holds, which of its moments
are keyframes, the sensors' files, the tables.
"""
