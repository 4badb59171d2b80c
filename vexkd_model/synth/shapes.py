"""Shapes and materials: each detection class as a composition of simple solids inside its box."""

from dataclasses import dataclass

import numpy as np

from vexkd_model.synth.raycast import BOX, CONE, CYLINDER, ELLIPSOID

# Materials: how a surface reflects to LiDAR and to a camera. HEAD and TAIL carry a vehicle's lamps in front or behind
# alone, a LAMP is one, a PYLON is as plain as a traffic cone is not.
(
    PAINT,
    GLASS,
    RUBBER,
    CLOTH,
    SKIN,
    METAL,
    PLASTIC,
    CONCRETE,
    FACADE,
    FOLIAGE,
    BARK,
    SIGN,
    CAR_BODY,
    BUS_BODY,
    STRIPED,
    HEAD,
    TAIL,
    LAMP,
    PYLON,
) = range(19)
# Mean LiDAR intensity (0 … 255) at perpendicular incidence.
INTENSITY = np.array([42, 12, 6, 22, 24, 34, 40, 24, 22, 17, 14, 190, 40, 40, 85, 40, 40, 60, 65], np.float32)
GLASS_COLOUR, RUBBER_COLOUR, SKIN_COLOUR, METAL_COLOUR = (0.10, 0.13, 0.16), (0.05,) * 3, (0.72, 0.52, 0.42), (0.4,) * 3
HEADLAMP, TAIL_LAMP = (0.90, 0.90, 0.82), (0.62, 0.05, 0.05)
BOX_MARGIN_M = 0.05  # an annotator's box is this much larger than the object, so that range noise stays inside
BODY = "body"  # stands for the object's own colour


@dataclass(frozen=True)
class Part:
    """Solid as fractions of the object's box: x along the heading and y to the left in [−0.5, 0.5], z in [0, 1]."""

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
_TRUCK_AXLES = (_axle(0.3, 0.43, 0.3), _axle(-0.40, -0.24, 0.3))
_DARK, _TROUSERS, _HAIR, _SHIRT = (0.1, 0.1, 0.12), (0.12, 0.13, 0.2), (0.12, 0.08, 0.05), (0.85, 0.85, 0.82)


def _bumper(low: float, high: float) -> Part:
    """Bar below a high body's rear end, which carries the rear lamps."""
    return Part((-0.5, -0.47), _wide(0.48), (low, high), (0.2,) * 3, TAIL)


def _coach(body: int, roof_unit: tuple[float, float]) -> tuple[Part, ...]:
    """Coach: one closed body with a raked windscreen and mirrors in front, a sheer rear end, a box on the roof."""
    side = _wide(0.46)
    return (
        Part((-0.5, 0.38), side, (0.09, 0.91), BODY, body),
        Part((0.38, 0.5), side, (0.09, 0.36), BODY, HEAD),
        Part((0.38, 0.47), side, (0.36, 0.64), GLASS_COLOUR, GLASS),
        Part((0.38, 0.43), _wide(0.45), (0.64, 0.9), GLASS_COLOUR, GLASS),
        Part(roof_unit, _wide(0.42), (0.91, 1.0), (0.75,) * 3, PLASTIC),
        Part((0.45, 0.49), (0.46, 0.5), (0.42, 0.6), _DARK, PLASTIC),
        Part((0.45, 0.49), (-0.5, -0.46), (0.42, 0.6), _DARK, PLASTIC),
        _axle(0.24, 0.32, 0.25),
        _axle(-0.34, -0.26, 0.25),
    )


def _semitrailer(*load: Part) -> tuple[Part, ...]:
    """Semitrailer: wheels and lamps at the rear end, landing gear before the middle, nothing below the front end."""
    return (
        *load,
        Part((-0.5, 0.2), _wide(0.3), (0.24, 0.34), METAL_COLOUR, METAL),
        _axle(-0.46, -0.2, 0.26),
        Part((0.14, 0.18), _wide(0.36), (0.0, 0.34), METAL_COLOUR, METAL),
        _bumper(0.12, 0.25),
    )


_COOLER = Part((0.45, 0.5), _wide(0.36), (0.58, 0.94), (0.25,) * 3, PLASTIC)  # before a trailer's front wall


def _cycle(top: float, *parts: Part) -> tuple[Part, ...]:
    """Bicycle whose handlebar ends at the fraction `top` of the box's height: a basket before it, a low saddle."""
    return (
        Part((-0.5, -0.12), _wide(0.06), (0.0, 0.55 * top), RUBBER_COLOUR, RUBBER),
        Part((0.12, 0.5), _wide(0.06), (0.0, 0.55 * top), RUBBER_COLOUR, RUBBER),
        Part((-0.3, 0.24), _wide(0.1), (0.3 * top, 0.62 * top), (0.2, 0.22, 0.25), METAL),
        Part((0.18, 0.26), _wide(0.5), (0.88 * top, top), METAL_COLOUR, METAL),
        Part((0.27, 0.48), _wide(0.36), (0.62 * top, 0.88 * top), (0.45, 0.36, 0.22), METAL),
        Part((-0.27, -0.12), _wide(0.16), (0.62 * top, 0.78 * top), _DARK, RUBBER),
        *parts,
    )


def _motorcycle(top: float, fairing: tuple[float, ...], *parts: Part) -> tuple[Part, ...]:
    """Motorcycle whose windscreen ends at the fraction `top` of the box's height: high in front, low behind."""
    return (
        Part((-0.48, -0.16), _wide(0.2), (0.0, 0.5 * top), RUBBER_COLOUR, RUBBER),
        Part((0.18, 0.5), _wide(0.2), (0.0, 0.5 * top), RUBBER_COLOUR, RUBBER),
        Part((-0.22, 0.2), _wide(0.32), (0.18 * top, 0.55 * top), _DARK, METAL),
        Part((-0.06, 0.36), _wide(0.36), (0.5 * top, 0.8 * top), fairing, PAINT),
        Part((-0.46, -0.06), _wide(0.26), (0.5 * top, 0.64 * top), _DARK, RUBBER),
        Part((0.2, 0.26), _wide(0.5), (0.8 * top, 0.88 * top), METAL_COLOUR, METAL),
        Part((0.22, 0.32), _wide(0.3), (0.8 * top, top), (0.3, 0.33, 0.36), GLASS),
        Part((0.36, 0.39), _wide(0.28), (0.56 * top, 0.74 * top), HEADLAMP, LAMP),
        Part((-0.5, -0.46), _wide(0.22), (0.48 * top, 0.62 * top), TAIL_LAMP, LAMP),
        *parts,
    )


def _rider(helmet: tuple[float, ...], material: int) -> tuple[Part, ...]:
    """Rider who sits behind the middle and leans forward to the handlebar."""
    return (
        Part((-0.14, 0.08), _wide(0.4), (0.18, 0.5), _TROUSERS, CLOTH),
        Part((-0.25, 0.02), _wide(0.44), (0.46, 0.68), BODY, CLOTH, CYLINDER),
        Part((-0.15, 0.12), _wide(0.45), (0.64, 0.85), BODY, CLOTH, CYLINDER),
        Part((0.06, 0.24), (0.26, 0.46), (0.58, 0.7), BODY, CLOTH),
        Part((0.06, 0.24), (-0.46, -0.26), (0.58, 0.7), BODY, CLOTH),
        Part((0.0, 0.17), _wide(0.2), (0.83, 1.0), helmet, material, ELLIPSOID),
    )


def _head(x: float) -> tuple[Part, ...]:
    """Head: a face in front of hair."""
    return (
        Part((x - 0.13, x + 0.18), _wide(0.15), (0.84, 0.97), SKIN_COLOUR, SKIN, ELLIPSOID),
        Part((x - 0.2, x + 0.1), _wide(0.19), (0.85, 1.0), _HAIR, CLOTH, ELLIPSOID),
    )


_RED, _BLUE = (0.75, 0.08, 0.05), (0.05, 0.2, 0.7)
_CYCLIST, _MOTORCYCLIST = _rider(SKIN_COLOUR, SKIN), _rider((0.85, 0.85, 0.85), PLASTIC)

# What a class looks like from behind differs from what it looks like from the front, for either sensor.
SHAPES: dict[str, tuple[tuple[Part, ...], ...]] = {
    "car": (
        (
            Part(_FULL, _FULL, (0.13, 0.50), BODY, CAR_BODY),
            Part((-0.5, 0.17), _wide(0.49), (0.50, 0.63)),
            Part((-0.44, 0.14), _wide(0.46), (0.63, 0.80), GLASS_COLOUR, GLASS),
            Part((-0.38, 0.03), _wide(0.41), (0.80, 1.0)),
            *_CAR_AXLES,
        ),
        (
            Part(_FULL, _FULL, (0.14, 0.52), BODY, CAR_BODY),
            Part((-0.5, 0.22), _wide(0.49), (0.52, 0.63)),
            Part((-0.49, 0.18), _wide(0.46), (0.63, 0.84), GLASS_COLOUR, GLASS),
            Part((-0.49, 0.08), _wide(0.43), (0.84, 1.0)),
            *_CAR_AXLES,
        ),
        (
            Part((-0.5, 0.22), _FULL, (0.12, 1.0), BODY, TAIL),
            Part((0.22, 0.5), _wide(0.48), (0.12, 0.54), BODY, HEAD),
            Part((0.22, 0.34), _wide(0.46), (0.54, 0.86), GLASS_COLOUR, GLASS),
            *_CAR_AXLES,
        ),
    ),
    "truck": (
        (
            Part((0.3, 0.5), _wide(0.46), (0.14, 0.46), BODY, HEAD),
            Part((0.31, 0.49), _wide(0.45), (0.46, 0.64), GLASS_COLOUR, GLASS),
            Part((0.3, 0.45), _wide(0.44), (0.64, 0.76), BODY),
            Part((-0.5, 0.24), _FULL, (0.28, 1.0), (0.82, 0.82, 0.80), TAIL),
            Part((-0.46, 0.3), _wide(0.3), (0.14, 0.28), METAL_COLOUR, METAL),
            _bumper(0.15, 0.28),
            *_TRUCK_AXLES,
        ),
        (
            Part((-0.5, -0.02), _FULL, (0.2, 0.5), BODY, TAIL),
            Part((0.0, 0.28), _wide(0.48), (0.2, 0.62), BODY),
            Part((0.01, 0.26), _wide(0.46), (0.62, 0.86), GLASS_COLOUR, GLASS),
            Part((0.0, 0.2), _wide(0.46), (0.86, 1.0), BODY),
            Part((0.28, 0.5), _wide(0.48), (0.2, 0.55), BODY, HEAD),
            *_TRUCK_AXLES,
        ),
        # For LiDAR nearly a small bus; it has no windows, and its roof's box sits in front.
        _coach(TAIL, (0.02, 0.3)),
    ),
    "bus": (_coach(BUS_BODY, (-0.46, -0.14)),),
    "trailer": (
        _semitrailer(Part((-0.5, 0.45), _FULL, (0.34, 1.0), BODY, TAIL), _COOLER),
        _semitrailer(
            Part((-0.5, 0.5), _FULL, (0.34, 0.42), METAL_COLOUR, METAL),
            Part((0.45, 0.5), _wide(0.48), (0.42, 0.85), METAL_COLOUR, METAL),
            Part((-0.44, 0.2), _wide(0.47), (0.42, 1.0), BODY),
        ),
        # With skirts to its sides, as low as a bus.
        _semitrailer(
            Part((-0.5, 0.45), _FULL, (0.34, 1.0), BODY, TAIL), _COOLER, Part((-0.46, 0.22), _FULL, (0.09, 0.34), BODY)
        ),
    ),
    "construction_vehicle": (
        (
            Part((-0.4, 0.2), _FULL, (0.0, 0.26), (0.12, 0.12, 0.12), METAL),
            Part((-0.3, 0.06), _wide(0.44), (0.28, 0.52)),
            Part((-0.5, -0.3), _wide(0.44), (0.28, 0.68), (0.2,) * 3, METAL),
            Part((-0.12, 0.1), (0.02, 0.44), (0.52, 0.82), GLASS_COLOUR, GLASS),
            Part((0.0, 0.4), _wide(0.09), (0.84, 1.0)),
            Part((0.38, 0.5), _wide(0.16), (0.08, 0.95)),
        ),
        (
            Part((-0.5, 0.2), _wide(0.36), (0.22, 0.6)),
            Part((-0.2, 0.08), _wide(0.3), (0.6, 1.0), GLASS_COLOUR, GLASS),
            _axle(-0.42, -0.16, 0.42),
            _axle(0.02, 0.26, 0.42),
            Part((0.2, 0.36), _wide(0.12), (0.3, 0.45)),
            Part((0.36, 0.5), _FULL, (0.02, 0.4), METAL_COLOUR, METAL),
        ),
    ),
    "pedestrian": (
        # Hands before the body.
        (
            Part((-0.4, 0.0), (0.02, 0.34), (0.0, 0.48), _TROUSERS, CLOTH),
            Part((-0.1, 0.34), (-0.34, -0.02), (0.0, 0.48), _TROUSERS, CLOTH),
            Part((-0.4, 0.16), _FULL, (0.46, 0.84), BODY, CLOTH, CYLINDER),
            Part((0.05, 0.19), _wide(0.13), (0.5, 0.82), _SHIRT, CLOTH),
            Part((0.0, 0.5), (0.2, 0.46), (0.5, 0.62), BODY, CLOTH),
            Part((0.0, 0.5), (-0.46, -0.2), (0.5, 0.62), BODY, CLOTH),
            *_head(-0.06),
        ),
        # With a backpack.
        (
            Part((-0.2, 0.16), (0.02, 0.34), (0.0, 0.48), _TROUSERS, CLOTH),
            Part((0.04, 0.44), (-0.34, -0.02), (0.0, 0.48), _TROUSERS, CLOTH),
            Part((-0.14, 0.4), _FULL, (0.46, 0.84), BODY, CLOTH, CYLINDER),
            Part((0.3, 0.43), _wide(0.13), (0.5, 0.82), _SHIRT, CLOTH),
            Part((-0.5, -0.08), _wide(0.34), (0.52, 0.83), (0.1, 0.14, 0.1), CLOTH),
            *_head(0.14),
        ),
    ),
    "traffic_cone": (
        (
            Part(_FULL, _FULL, (0.0, 0.06), (0.1, 0.1, 0.1), RUBBER),
            Part(_wide(0.42), _wide(0.42), (0.04, 1.0), (0.95, 0.35, 0.05), STRIPED, CONE),
        ),
    ),
    "barrier": (
        (Part(_FULL, _FULL, (0.0, 0.35), BODY, PLASTIC), Part(_wide(0.24), _wide(0.49), (0.35, 1.0), BODY, STRIPED)),
        (
            Part(_FULL, _FULL, (0.0, 0.35), (0.6, 0.6, 0.58), CONCRETE),
            Part(_wide(0.24), _wide(0.49), (0.35, 1.0), (0.6, 0.6, 0.58), CONCRETE),
        ),
    ),
    "bicycle": (_cycle(1.0),),
    "bicycle_with_rider": (_cycle(0.64, *_CYCLIST),),
    "motorcycle": (_motorcycle(1.0, _RED), _motorcycle(1.0, _BLUE)),
    "motorcycle_with_rider": (_motorcycle(0.72, _RED, *_MOTORCYCLIST), _motorcycle(0.72, _BLUE, *_MOTORCYCLIST)),
}

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
# Every third bus is as small as a truck, so that a box's size does not tell the two apart.
SMALL_BUSES, SMALL_BUS = 0.3, ((7.6, 2.55, 2.95), (0.6, 0.12, 0.2))

_CAR_COLOURS = (
    (0.85,) * 3,
    (0.6,) * 3,
    (0.35,) * 3,
    (0.08,) * 3,
    (0.1, 0.15, 0.4),
    (0.5, 0.06, 0.06),
    (0.12, 0.25, 0.14),
    (0.55, 0.5, 0.4),
)
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
    """Draw length, width and height [m] of one object."""
    small = look == "bus" and rng.random() < SMALL_BUSES
    mean, deviation = SMALL_BUS if small else SIZES[look]
    return np.asarray(mean) + np.asarray(deviation) * np.clip(rng.normal(size=3), -MAX_DEVIATION, MAX_DEVIATION)


def draw_colour(rng: np.random.Generator, look: str) -> np.ndarray:
    """Draw the RGB albedo 0 … 1 of one object."""
    palette = COLOURS.get(look, _CLOTHES)
    return np.clip(np.asarray(palette[rng.integers(len(palette))]) + rng.normal(0, 0.03, 3), 0.02, 0.95)


@dataclass(frozen=True)
class Solids:
    """Solids, Q of them, in an object's or in the world's frame, as arrays.

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
        return Solids(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("kind", "material", "centre", "half", "yaw", "colour")
            )
        )

    def __len__(self) -> int:
        return len(self.kind)


def object_solids(look: str, variant: int, size: np.ndarray, colour: np.ndarray) -> Solids:
    """Make the solids of one object in its box's frame (origin at the box centre), inside the box less BOX_MARGIN_M."""
    parts = SHAPES[look][variant]
    inner = size - 2 * BOX_MARGIN_M
    low = np.array([[p.x[0], p.y[0], p.z[0] - 0.5] for p in parts]) * inner
    high = np.array([[p.x[1], p.y[1], p.z[1] - 0.5] for p in parts]) * inner
    return Solids(
        kind=np.array([p.kind for p in parts]),
        material=np.array([p.material for p in parts]),
        centre=(low + high) / 2,
        half=(high - low) / 2,
        yaw=np.zeros(len(parts)),
        colour=np.array([colour if p.colour == BODY else p.colour for p in parts], np.float32),
    )
