"""Presets of synthetic datasets: their scenes, sensor rates and image resolution."""

from dataclasses import dataclass

from nuscenes.utils.splits import mini_train, mini_val, train, val

SWEEP_INTERVAL_US = 50_000  # of nuScenes' LiDAR, by which presets count
KEYFRAME_INTERVAL_US = 500_000  # annotations and images at 2 Hz
MAP_NAMES = ("boston-seaport", "singapore-hollandvillage", "singapore-onenorth", "singapore-queenstown")
PATCH_EDGE_M = 310.0  # every scene owns a square of this size on one map
_OFFICIAL = (*train, *val)
_MINI_NUMBERS_FROM = 1000


@dataclass(frozen=True)
class Preset:
    """Size of a synthetic dataset.

    version: the nuScenes version folder; decides which official split names the devkit accepts.
    splits: official split name → its scene names, in official order.
    keyframes: keyframes a scene, 0.5 s apart.
    sweeps_before_keyframe: sweeps of a LiDAR at 20 Hz written before each keyframe, 50 ms apart; 9 writes every sweep
        between two keyframes. Of another LiDAR, those in the same time are written.
    sweeps_before_scene: the same before a scene's first keyframe.
    image_width: pixels of each camera; its height follows from the camera's shape.
    jpeg_quality: 0 … 100.
    """

    version: str
    splits: dict[str, tuple[str, ...]]
    keyframes: int
    sweeps_before_keyframe: int
    sweeps_before_scene: int
    image_width: int
    jpeg_quality: int = 85

    @property
    def scene_names(self) -> tuple[str, ...]:
        """Names of the scenes of all splits; the order decides each scene's place on the maps."""
        return tuple(name for names in self.splits.values() for name in names)

    def scene_number(self, name: str) -> int:
        """Number that seeds a scene's random numbers: its place among nuScenes' official scenes.

        So presets of different size share their scenes. The names of v1.0-mini are numbered apart: mini_train holds
        names of the official val split, and no preset may train on what another one validates on.
        """
        return _OFFICIAL.index(name) + (_MINI_NUMBERS_FROM if self.version == "v1.0-mini" else 0)

    @property
    def duration_s(self) -> float:
        """Time from a scene's first keyframe to its last."""
        return (self.keyframes - 1) * KEYFRAME_INTERVAL_US * 1e-6


def _trainval(trained: int, **sizes: int) -> Preset:
    """Make a preset of the first `trained` of the 700 official train scenes and all 150 val scenes."""
    return Preset(version="v1.0-trainval", splits={"train": tuple(train[:trained]), "val": tuple(val)}, **sizes)


# For two CPU cores. The val split is nuScenes' own 150 scenes, because scenes, not keyframes, are what makes a val mAP
# certain: the keyframes of one scene show the same objects (docs/results/val_standard_error.md). A detector simulated
# over these scenes, whose recall varied from scene to scene and from object to object, had a standard error of 0.6 to
# 0.9 points of mAP on 150 scenes and of 1.3 to 1.6 on 40. Nine sweeps a keyframe
# hold five that are 0.1 s apart: over 0.4 s a walker moves by more than range noise.
_SMALL = {"keyframes": 6, "sweeps_before_keyframe": 8, "sweeps_before_scene": 8, "image_width": 256}

PRESETS = {
    "demo": Preset(
        version="v1.0-mini",
        splits={"mini_train": tuple(mini_train), "mini_val": tuple(mini_val)},
        keyframes=17,
        sweeps_before_keyframe=9,
        sweeps_before_scene=5,
        image_width=320,
    ),
    "bench-small": _trainval(350, **_SMALL),
    # The same world with all train scenes: how much of a model's headroom is more data?
    "bench-small-x4": _trainval(700, **_SMALL),
    # For a GPU machine. 3.5 s a scene instead of nuScenes' 20 s: every scene is a street of its own here, so that a
    # longer drive through it adds near copies, and 850 scenes of 20 s with ten sweeps a keyframe would fill 240 GB.
    "bench": _trainval(700, keyframes=8, sweeps_before_keyframe=9, sweeps_before_scene=9, image_width=800),
}
