"""Every number that sizes a synthetic dataset: what is written, how much of it, at which rates and resolution."""

from dataclasses import dataclass

from nuscenes.utils.splits import mini_train, mini_val, train, val

SWEEP_INTERVAL_US = 50_000  # a 20 Hz LiDAR
KEYFRAME_INTERVAL_US = 500_000  # annotations and images at 2 Hz
MAP_NAMES = ("boston-seaport", "singapore-hollandvillage", "singapore-onenorth", "singapore-queenstown")
PATCH_EDGE_M = 310.0  # every scene owns a square of this size on one map


@dataclass(frozen=True)
class Preset:
    """One kind of synthetic dataset.

    version: the nuScenes version folder; decides which official split names the devkit accepts.
    splits: official split name → its scene names, in official order.
    keyframes: keyframes a scene, 0.5 s apart.
    sweeps_before_keyframe: LiDAR sweeps written before each keyframe, 50 ms apart; 9 writes every sweep between
        two keyframes.
    sweeps_before_scene: sweeps written before a scene's first keyframe.
    image_width, image_height: pixels of each of the six cameras.
    jpeg_quality: 0 … 100.
    """

    version: str
    splits: dict[str, tuple[str, ...]]
    keyframes: int
    sweeps_before_keyframe: int
    sweeps_before_scene: int
    image_width: int
    image_height: int
    jpeg_quality: int = 85

    @property
    def scene_names(self) -> tuple[str, ...]:
        """All scenes of all splits; the order decides each scene's place on the maps and its base time."""
        return tuple(name for names in self.splits.values() for name in names)

    @property
    def duration_s(self) -> float:
        """Time from a scene's first keyframe to its last."""
        return (self.keyframes - 1) * KEYFRAME_INTERVAL_US * 1e-6


PRESETS = {
    "demo": Preset(
        version="v1.0-mini",
        splits={"mini_train": tuple(mini_train), "mini_val": tuple(mini_val)},
        keyframes=17,
        sweeps_before_keyframe=9,
        sweeps_before_scene=5,
        image_width=320,
        image_height=180,
    ),
    "bench-small": Preset(
        version="v1.0-trainval",
        splits={"train": tuple(train[:160]), "val": tuple(val[:40])},
        keyframes=9,
        sweeps_before_keyframe=4,
        sweeps_before_scene=4,
        image_width=256,
        image_height=144,
    ),
}
