"""Synthetic world: street scenes, ray-cast sensors, and a writer of the official nuScenes schema."""

from vexkd_model.synth.generate import synthesise
from vexkd_model.synth.presets import PRESETS

__all__ = ["PRESETS", "synthesise"]
