"""Ray casting against boxes, ellipsoids, cylinders and cones.

Both sensors have a regular grid of rays (beam × azimuth, row × column), so every primitive is tested only against
the rays inside its own window of that grid; the nearest hit of each ray wins.
"""

from dataclasses import dataclass

import torch

BOX, ELLIPSOID, CYLINDER, CONE = range(4)
NO_HIT = -1
TICKS_PER_METRE = 10_000  # depth resolution of the z-buffer: 0.1 mm
INDEX_BITS = 20


@dataclass(frozen=True)
class Primitives:
    """Upright solids, P of them, each filling the box `centre ± half` turned by `yaw` about z.

    kind: int64 (P,), BOX, ELLIPSOID, CYLINDER (axis z) or CONE (tip up). centre, half: float32 (P, 3) [m].
    yaw: float32 (P,) [rad]. All in the world frame.
    """

    kind: torch.Tensor
    centre: torch.Tensor
    half: torch.Tensor
    yaw: torch.Tensor

    def __len__(self) -> int:
        return len(self.kind)

    def unit_from_world(self, index: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """Convert world vectors (N, 3) to the unit frames (solid = [−1, 1]³) of the primitives `index` (N,)."""
        cos, sin = torch.cos(self.yaw)[index], torch.sin(self.yaw)[index]
        x, y, z = vectors.unbind(-1)
        return torch.stack([cos * x + sin * y, cos * y - sin * x, z], -1) / self.half[index]

    def corners(self) -> torch.Tensor:
        """Corners (P, 8, 3) of the enclosing boxes [m]."""
        signs = torch.tensor(
            [[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)],
            dtype=self.half.dtype,
            device=self.half.device,
        )
        local = signs * self.half[:, None]
        cos, sin = torch.cos(self.yaw)[:, None], torch.sin(self.yaw)[:, None]
        x, y, z = local.unbind(-1)
        return torch.stack([cos * x - sin * y, sin * x + cos * y, z], -1) + self.centre[:, None]


@dataclass(frozen=True)
class Hits:
    """First hits of R rays.

    depth: float32 (R,), multiples of the direction's length; infinite without a hit. primitive: int64 (R,), NO_HIT.
    pairs: (primitive, ray) int64 (K,) each: every intersection, also the hidden ones.
    """

    depth: torch.Tensor
    primitive: torch.Tensor
    pairs: tuple[torch.Tensor, torch.Tensor]


def cast(
    primitives: Primitives, origin: torch.Tensor, directions: torch.Tensor, windows: torch.Tensor, grid: tuple[int, int]
) -> Hits:
    """Find the first hits of the rays `origin` (3,) + t · `directions` (rows · columns, 3), world frame, t > 0.

    windows: int64 (P, 4), row and column ranges [r0, r1), [c0, c1) of each primitive, empty where r1 ≤ r0 or
        c1 ≤ c0; columns may run past the grid's last one and then wrap around.
    grid: (rows, columns).
    """
    primitive, ray = _window_pairs(windows, grid[1])
    depth_of_pair = torch.full((len(primitive),), torch.inf, device=directions.device)
    starts = primitives.unit_from_world(torch.arange(len(primitives), device=origin.device), origin - primitives.centre)
    kind_of_pair = primitives.kind[primitive]
    cos, sin = torch.cos(primitives.yaw), torch.sin(primitives.yaw)
    for kind, intersect in ((BOX, _hit_box), (ELLIPSOID, _hit_sphere), (CYLINDER, _hit_cylinder), (CONE, _hit_cone)):
        chosen = torch.nonzero(kind_of_pair == kind).squeeze(1)
        if not len(chosen):
            continue
        index = primitive[chosen]
        x, y, z = directions[ray[chosen]].unbind(-1)
        half, c, s = primitives.half[index], cos[index], sin[index]
        step = ((c * x + s * y) / half[:, 0], (c * y - s * x) / half[:, 1], z / half[:, 2])
        depth_of_pair[chosen] = intersect(starts[index].unbind(-1), step)
    hit = torch.nonzero(torch.isfinite(depth_of_pair)).squeeze(1)
    primitive, ray, depth_of_pair = primitive[hit], ray[hit], depth_of_pair[hit]
    # One integer key, depth first, makes the winner independent of the order in which pairs are reduced.
    key = ((depth_of_pair * TICKS_PER_METRE).long() << INDEX_BITS) | primitive
    nearest = torch.full((len(directions),), torch.iinfo(torch.int64).max, device=directions.device)
    nearest.scatter_reduce_(0, ray, key, "amin")
    missed = nearest == torch.iinfo(torch.int64).max
    depth = (nearest >> INDEX_BITS).float() / TICKS_PER_METRE
    return Hits(
        torch.where(missed, torch.inf, depth),
        torch.where(missed, NO_HIT, nearest & ((1 << INDEX_BITS) - 1)),
        (primitive, ray),
    )


def _window_pairs(windows: torch.Tensor, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pair each primitive with every ray inside its window: (primitive, ray), int64 (K,) each."""
    heights = (windows[:, 1] - windows[:, 0]).clamp_min(0)
    widths = (windows[:, 3] - windows[:, 2]).clamp(0, columns)
    counts = heights * widths
    primitive = torch.repeat_interleave(torch.arange(len(windows), device=windows.device), counts)
    within = torch.arange(len(primitive), device=windows.device) - (counts.cumsum(0) - counts)[primitive]
    width = widths[primitive]
    row = torch.div(within, width, rounding_mode="floor")
    column = (windows[:, 2][primitive] + within - row * width) % columns
    return primitive, (windows[:, 0][primitive] + row) * columns + column


def _hit_box(start: tuple[torch.Tensor, ...], step: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Parameter t of the entry into [−1, 1]³, infinite for a miss or a start inside; slab method."""
    entry = torch.full_like(start[0], -torch.inf)
    leave = torch.full_like(start[0], torch.inf)
    for o, d in zip(start, step, strict=True):
        d = torch.where(d.abs() < 1e-9, 1e-9, d)
        low, high = (-1 - o) / d, (1 - o) / d
        entry = torch.maximum(entry, torch.minimum(low, high))
        leave = torch.minimum(leave, torch.maximum(low, high))
    return torch.where((entry <= leave) & (entry > 0), entry, torch.inf)


def _first_root(a: torch.Tensor, half_b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """Smaller root of a t² + 2 half_b t + c; infinite where there is none."""
    discriminant = half_b * half_b - a * c
    root = (-half_b - discriminant.clamp_min(0).sqrt()) / a
    return torch.where((discriminant >= 0) & (a.abs() > 1e-12), root, torch.inf)


def _hit_sphere(start: tuple[torch.Tensor, ...], step: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Parameter t of the entry into the unit sphere."""
    (x, y, z), (dx, dy, dz) = start, step
    t = _first_root(dx * dx + dy * dy + dz * dz, x * dx + y * dy + z * dz, x * x + y * y + z * z - 1)
    return torch.where(t > 0, t, torch.inf)


def _hit_cylinder(start: tuple[torch.Tensor, ...], step: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Parameter t of the entry into the unit cylinder: its side, or the cap that faces the sensor."""
    (x, y, z), (dx, dy, dz) = start, step
    side = _first_root(dx * dx + dy * dy, x * dx + y * dy, x * x + y * y - 1)
    side = torch.where((side > 0) & ((z + side * dz).abs() <= 1), side, torch.inf)
    cap = (torch.sign(z) - z) / torch.where(dz.abs() < 1e-9, 1e-9, dz)
    on_cap = (z.abs() > 1) & (cap > 0) & ((x + cap * dx) ** 2 + (y + cap * dy) ** 2 <= 1)
    return torch.minimum(side, torch.where(on_cap, cap, torch.inf))


def _hit_cone(start: tuple[torch.Tensor, ...], step: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Parameter t of the entry into the cone of radius (1 − z) / 2; its base is on the ground and never seen."""
    (x, y, z), (dx, dy, dz) = start, step
    r, dr = (1 - z) / 2, -dz / 2
    t = _first_root(dx * dx + dy * dy - dr * dr, x * dx + y * dy - r * dr, x * x + y * y - r * r)
    return torch.where((t > 0) & ((z + t * dz).abs() <= 1), t, torch.inf)


def normals(primitives: Primitives, index: torch.Tensor, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Outward unit normals (N, 3) of the primitives `index` (N,) at surface points (N, 3), both in the world frame.

    Also returns the points in the primitives' unit frames (N, 3).
    """
    unit = primitives.unit_from_world(index, points - primitives.centre[index])
    kind, half = primitives.kind[index], primitives.half[index]
    face = torch.nn.functional.one_hot(unit.abs().argmax(-1), 3) * torch.sign(unit)
    side = unit * torch.tensor([1.0, 1.0, 0.0], device=unit.device)
    top = torch.tensor([0.0, 0.0, 1.0], device=unit.device) * torch.sign(unit[:, 2:])
    round_side = torch.where(unit[:, 2:].abs() > 0.999, top, side)
    cone = side + torch.tensor([0.0, 0.0, 0.25], device=unit.device) * (1 - unit[:, 2:])
    local = torch.where(
        (kind == BOX)[:, None],
        face,
        torch.where((kind == ELLIPSOID)[:, None], unit, torch.where((kind == CYLINDER)[:, None], round_side, cone)),
    )
    # A normal transforms by the inverse transpose: dividing by half undoes the scaling of the unit frame.
    x, y, z = torch.nn.functional.normalize(local / half, dim=-1).unbind(-1)
    cos, sin = torch.cos(primitives.yaw)[index], torch.sin(primitives.yaw)[index]
    return torch.stack([cos * x - sin * y, sin * x + cos * y, z], -1), unit
