"""What things look like: materials, and each detection class as a composition of simple solids inside its box."""

from dataclasses import dataclass

import numpy as np

from vexkd_model.data.synth.raycast import BOX, CONE, CYLINDER, ELLIPSOID

# Materials: how a surface answers to LiDAR and to a camera.
PAINT, GLASS, RUBBER, CLOTH, SKIN, METAL, PLASTIC, CONCRETE, FACADE, FOLIAGE, BARK, SIGN, CAR_BODY, BUS_BODY, STRIPED = range(15)  # noqa: E501
# Mean LiDAR intensity (0 … 255) at perpendicular incidence.
INTENSITY = np.array([42, 12, 6, 22, 24, 34, 40, 24, 22, 17, 14, 190, 40, 40, 85], np.float32)
GLASS_COLOUR, RUBBER_COLOUR, SKIN_COLOUR, METAL_COLOUR = (0.10, 0.13, 0.16), (0.05,) * 3, (0.72, 0.52, 0.42), (0.4,) * 3
BOX_MARGIN_M = 0.05  # an annotator's box is this much larger than the object, so that range noise stays inside
BODY = "body"  # stands for the object's own colour


@dataclass(frozen=True)
class Part:
    """One solid as fractions of the object's box: x along the heading and y to the left in [−0.5, 0.5], z in [0, 1]."""

    x: tuple[float, float]
    y: tuple[float, float]
    z: tuple[float, float]
    colour: str | tuple[float, ...] = BODY
    material: int = PAINT
    kind: int = BOX


def _wide(half: float) -> tuple[float, float]:
    return -half, half


def _axle(x0: float, x1: float, top: float) -> Part:
    return Part((x0, x1), _wide(0.49), (0.0, top), RUBBER_COLOUR, RUBBER)


_FULL = _wide(0.5)
_CAR_AXLES = (_axle(0.22, 0.37, 0.36), _axle(-0.37, -0.22, 0.36))
_RIDER = (
    Part((-0.12, 0.12), _wide(0.45), (0.42, 0.84), BODY, CLOTH, CYLINDER),
    Part((-0.07, 0.09), _wide(0.2), (0.84, 1.0), SKIN_COLOUR, SKIN, ELLIPSOID),
)


def _cycle(top: float, thickness: float) -> tuple[Part, ...]:
    """A two-wheeler whose handlebar ends at the fraction `top` of the box's height."""
    return (
        Part((-0.5, -0.14), _wide(thickness * 0.6), (0.0, 0.55 * top), RUBBER_COLOUR, RUBBER),
        Part((0.14, 0.5), _wide(thickness * 0.6), (0.0, 0.55 * top), RUBBER_COLOUR, RUBBER),
        Part((-0.32, 0.3), _wide(thickness), (0.3 * top, 0.8 * top), (0.25, 0.1, 0.1), METAL),
        Part((0.2, 0.27), _wide(0.5), (0.86 * top, top), METAL_COLOUR, METAL),
    )


SHAPES: dict[str, tuple[tuple[Part, ...], ...]] = {
    "car": (
        (Part(_FULL, _FULL, (0.14, 0.56), BODY, CAR_BODY),
         Part((-0.36, 0.25), _wide(0.46), (0.56, 0.80), GLASS_COLOUR, GLASS),
         Part((-0.28, 0.13), _wide(0.41), (0.80, 1.0)), *_CAR_AXLES),
        (Part(_FULL, _FULL, (0.15, 0.58), BODY, CAR_BODY),
         Part((-0.48, 0.26), _wide(0.46), (0.58, 0.84), GLASS_COLOUR, GLASS),
         Part((-0.46, 0.17), _wide(0.43), (0.84, 1.0)), *_CAR_AXLES),
        (Part((-0.5, 0.36), _FULL, (0.12, 1.0), BODY, CAR_BODY), Part((0.36, 0.5), _wide(0.48), (0.12, 0.55)),
         *_CAR_AXLES),
    ),
    "truck": (
        (Part((0.3, 0.5), _wide(0.46), (0.14, 0.78), BODY, CAR_BODY),
         Part((-0.5, 0.28), _FULL, (0.26, 1.0), (0.82, 0.82, 0.80), PAINT),
         Part((-0.48, 0.3), _wide(0.3), (0.14, 0.26), METAL_COLOUR, METAL),
         _axle(0.32, 0.44, 0.28), _axle(-0.42, -0.26, 0.28)),
        (Part((-0.5, 0.0), _FULL, (0.2, 0.5), BODY, CAR_BODY),
         Part((0.0, 0.3), _wide(0.48), (0.2, 1.0), BODY, CAR_BODY),
         Part((0.3, 0.5), _wide(0.48), (0.2, 0.62), BODY, CAR_BODY),
         _axle(0.28, 0.42, 0.34), _axle(-0.38, -0.22, 0.34)),
    ),
    "bus": (
        (Part(_FULL, _FULL, (0.09, 1.0), BODY, BUS_BODY), _axle(0.28, 0.36, 0.25), _axle(-0.34, -0.26, 0.25)),
    ),
    "trailer": (
        (Part(_FULL, _FULL, (0.3, 1.0), BODY), _axle(-0.42, -0.18, 0.3),
         Part((0.28, 0.31), _wide(0.35), (0.0, 0.3), METAL_COLOUR, METAL)),
        (Part(_FULL, _FULL, (0.26, 0.36), METAL_COLOUR, METAL), Part((-0.46, 0.3), _wide(0.47), (0.36, 1.0), BODY),
         _axle(-0.42, -0.18, 0.26), Part((0.36, 0.39), _wide(0.35), (0.0, 0.26), METAL_COLOUR, METAL)),
    ),
    "construction_vehicle": (
        (Part((-0.4, 0.2), _FULL, (0.0, 0.26), (0.12, 0.12, 0.12), METAL),
         Part((-0.5, 0.06), _wide(0.44), (0.28, 0.58)),
         Part((-0.12, 0.1), (0.02, 0.44), (0.58, 0.82), GLASS_COLOUR, GLASS),
         Part((0.0, 0.4), _wide(0.09), (0.84, 1.0)), Part((0.38, 0.5), _wide(0.1), (0.08, 0.95))),
        (Part((-0.5, 0.2), _wide(0.36), (0.22, 0.6)), Part((-0.2, 0.08), _wide(0.3), (0.6, 1.0), GLASS_COLOUR, GLASS),
         _axle(-0.42, -0.16, 0.42), _axle(0.02, 0.26, 0.42), Part((0.2, 0.36), _wide(0.12), (0.3, 0.45)),
         Part((0.36, 0.5), _FULL, (0.02, 0.4), METAL_COLOUR, METAL)),
    ),
    "pedestrian": (
        (Part((-0.5, 0.05), (0.02, 0.34), (0.0, 0.48), (0.12, 0.13, 0.2), CLOTH),
         Part((-0.05, 0.5), (-0.34, -0.02), (0.0, 0.48), (0.12, 0.13, 0.2), CLOTH),
         Part((-0.3, 0.3), _FULL, (0.46, 0.84), BODY, CLOTH, CYLINDER),
         Part((-0.18, 0.18), _wide(0.16), (0.84, 1.0), SKIN_COLOUR, SKIN, ELLIPSOID)),
    ),
    "traffic_cone": (
        (Part(_FULL, _FULL, (0.0, 0.06), (0.1, 0.1, 0.1), RUBBER),
         Part(_wide(0.42), _wide(0.42), (0.04, 1.0), (0.95, 0.35, 0.05), STRIPED, CONE)),
    ),
    "barrier": (
        (Part(_FULL, _FULL, (0.0, 0.35), BODY, PLASTIC), Part(_wide(0.24), _wide(0.49), (0.35, 1.0), BODY, STRIPED)),
        (Part(_FULL, _FULL, (0.0, 0.35), (0.6, 0.6, 0.58), CONCRETE),
         Part(_wide(0.24), _wide(0.49), (0.35, 1.0), (0.6, 0.6, 0.58), CONCRETE)),
    ),
    "bicycle": (_cycle(1.0, 0.1),),
    "bicycle_with_rider": ((*_cycle(0.62, 0.1), *_RIDER),),
    "motorcycle": (_cycle(1.0, 0.34),),
    "motorcycle_with_rider": ((*_cycle(0.66, 0.34), *_RIDER),),
}  # fmt: skip

# Mean and standard deviation of length, width, height [m], after nuScenes' annotations.
SIZES = {
    "car": ((4.62, 1.95, 1.73), (0.35, 0.12, 0.15)),
    "truck": ((6.93, 2.51, 2.84), (1.1, 0.2, 0.4)),
    "bus": ((11.1, 2.94, 3.47), (1.0, 0.12, 0.25)),
    "trailer": ((11.5, 2.90, 3.87), (1.5, 0.15, 0.3)),
    "construction_vehicle": ((6.37, 2.73, 3.19), (0.7, 0.25, 0.35)),
    "pedestrian": ((0.73, 0.67, 1.77), (0.08, 0.06, 0.10)),
    "traffic_cone": ((0.41, 0.41, 1.07), (0.03, 0.03, 0.10)),
    "barrier": ((0.50, 2.53, 0.98), (0.04, 0.15, 0.06)),
    "bicycle": ((1.70, 0.60, 1.10), (0.10, 0.05, 0.06)),
    "bicycle_with_rider": ((1.72, 0.62, 1.72), (0.10, 0.05, 0.08)),
    "motorcycle": ((2.11, 0.77, 1.25), (0.14, 0.06, 0.08)),
    "motorcycle_with_rider": ((2.11, 0.80, 1.70), (0.14, 0.06, 0.08)),
}
MAX_DEVIATION = 2.0  # in standard deviations

_CAR_COLOURS = ((0.85,) * 3, (0.6,) * 3, (0.35,) * 3, (0.08,) * 3, (0.1, 0.15, 0.4), (0.5, 0.06, 0.06),
                (0.12, 0.25, 0.14), (0.55, 0.5, 0.4))
_CLOTHES = ((0.8, 0.8, 0.8), (0.1, 0.1, 0.12), (0.6, 0.1, 0.1), (0.1, 0.2, 0.55), (0.15, 0.4, 0.2), (0.75, 0.6, 0.15))
COLOURS = {
    "car": _CAR_COLOURS,
    "truck": ((0.85,) * 3, (0.15, 0.25, 0.55), (0.6, 0.1, 0.1), (0.3,) * 3),
    "bus": ((0.65, 0.08, 0.08), (0.1, 0.45, 0.2), (0.8, 0.7, 0.2), (0.15, 0.3, 0.6)),
    "trailer": ((0.8,) * 3, (0.5, 0.2, 0.1), (0.15, 0.3, 0.45)),
    "construction_vehicle": ((0.9, 0.65, 0.05), (0.9, 0.4, 0.05)),
    "barrier": ((0.9, 0.35, 0.1), (0.85,) * 3),
    "traffic_cone": ((0.95, 0.35, 0.05),),
}


def draw_size(rng: np.random.Generator, look: str) -> np.ndarray:
    """Length, width, height [m] of one object."""
    mean, deviation = SIZES[look]
    return np.asarray(mean) + np.asarray(deviation) * np.clip(rng.normal(size=3), -MAX_DEVIATION, MAX_DEVIATION)


def draw_colour(rng: np.random.Generator, look: str) -> np.ndarray:
    """RGB albedo 0 … 1 of one object."""
    palette = COLOURS.get(look, _CLOTHES)
    return np.clip(np.asarray(palette[rng.integers(len(palette))]) + rng.normal(0, 0.03, 3), 0.02, 0.95)


@dataclass(frozen=True)
class Solids:
    """Q solids in some object's or in the world's frame, as arrays.

    kind, material: int64 (Q,). centre, half: float64 (Q, 3) [m]. yaw: float64 (Q,) [rad]. colour: float32 (Q, 3).
    """

    kind: np.ndarray
    material: np.ndarray
    centre: np.ndarray
    half: np.ndarray
    yaw: np.ndarray
    colour: np.ndarray

    @staticmethod
    def join(parts: "list[Solids]") -> "Solids":
        return Solids(*(np.concatenate([getattr(part, name) for part in parts])
                        for name in ("kind", "material", "centre", "half", "yaw", "colour")))

    def __len__(self) -> int:
        return len(self.kind)


def object_solids(look: str, variant: int, size: np.ndarray, colour: np.ndarray) -> Solids:
    """The solids of one object in its box's frame (origin at the box centre), inside the box less BOX_MARGIN_M."""
    parts = SHAPES[look][variant]
    inner = size - 2 * BOX_MARGIN_M
    low = np.array([[p.x[0], p.y[0], p.z[0] - 0.5] for p in parts]) * inner
    high = np.array([[p.x[1], p.y[1], p.z[1] - 0.5] for p in parts]) * inner
    return Solids(
        kind=np.array([p.kind for p in parts]), material=np.array([p.material for p in parts]),
        centre=(low + high) / 2, half=(high - low) / 2, yaw=np.zeros(len(parts)),
        colour=np.array([colour if p.colour == BODY else p.colour for p in parts], np.float32),
    )
