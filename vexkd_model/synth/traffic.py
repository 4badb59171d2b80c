"""Traffic of a scene: the ego vehicle's drive, vehicles in lanes, parked vehicles, pedestrians, building sites."""

from typing import cast

import numpy as np
from shapely.geometry import Polygon
from shapely.ops import unary_union

from vexkd_model.synth.actors import Actor, Site, Track, footprint, make_actor, place_static
from vexkd_model.synth.layout import CROSSING_WIDTH_M, KERB_HEIGHT_M, LANE_REACH_M, PARKING_WIDTH_M, Lane, Layout, Lot
from vexkd_model.synth.shapes import draw_size

MOVING, STOPPED, PARKED = "vehicle.moving", "vehicle.stopped", "vehicle.parked"
RIDER, NO_RIDER = "cycle.with_rider", "cycle.without_rider"
LANE_MIX = {"car": 0.62, "truck": 0.08, "bus": 0.05, "articulated": 0.09, "motorcycle": 0.08, "bicycle": 0.08}
QUEUE_MIX = {"car": 0.82, "truck": 0.07, "bus": 0.04, "motorcycle": 0.07}
BICYCLE_MAX_SPEED = 6.0  # m/s
POPULATED_M = 115.0  # along the main road, either way from the middle
WALKERS = 13.0  # mean number of pedestrians on each of the two walkways


def drive_ego(layout: Layout, rng: np.random.Generator, duration_s: float) -> tuple[Track, Lane]:
    """Draw the ego vehicle's track, half-way near the scene's middle, and the lane that it starts in."""
    forward = [lane for lane in layout.lanes if lane.forward]
    outer = min(forward, key=lambda lane: lane.d)
    if -1 in layout.arms and rng.random() < 0.3:
        speed = float(rng.uniform(3.5, 5.0))
        points, turn_at = _right_turn(layout, outer)
        return Track(points, turn_at - speed * duration_s * float(rng.uniform(0.4, 0.7)), speed), outer
    lane = forward[rng.integers(len(forward))]
    speed = float(rng.uniform(4.0, 10.0))
    path = lane.path()
    middle = Track(path).length / 2
    return Track(path, middle - speed * duration_s / 2, speed), lane


def _right_turn(layout: Layout, lane: Lane) -> tuple[np.ndarray, float]:
    """Path from a forward lane into the right arm of the cross road, and the arc length at which it turns."""
    assert layout.cross is not None, "there is a right arm"
    leave_s = layout.cross_s - layout.cross_half_width - 4.0
    before = layout.main.line(-LANE_REACH_M, leave_s, lane.d, step=1.0)
    exit_s = -(layout.kerb(-1) + 4.0)
    after = layout.cross.line(exit_s, -LANE_REACH_M, layout.lane_width / 2, step=1.0)
    start, end = before[-1], after[0]
    heading, cross_heading = layout.main.heading(leave_s), layout.cross.heading0 + np.pi
    # The corner where both tangents meet is the control point of a quadratic Bézier curve.
    a = np.array([[np.cos(heading), np.cos(cross_heading)], [np.sin(heading), np.sin(cross_heading)]])
    corner = start + np.linalg.solve(a, end - start)[0] * a[:, 0]
    u = np.linspace(0, 1, 24)[1:-1, None]
    bend = (1 - u) ** 2 * start + 2 * u * (1 - u) * corner + u**2 * end
    return np.concatenate([before, bend, after]), Track(before).length


def populate(
    layout: Layout, rng: np.random.Generator, site: Site, ego: Track, ego_lane: Lane, duration_s: float
) -> list[Actor]:
    """Draw all annotated objects of a scene; every scene holds all ten classes near the ego vehicle."""
    actors: list[Actor] = []
    for lot in layout.lots:
        if lot.kind == "construction":
            actors += _building_site(layout, lot, rng, site)
        elif lot.kind == "carpark":
            actors += _car_park(layout, lot, rng, site)
    actors += _parked_along_kerb(layout, rng, site)
    actors += _lane_traffic(layout, rng, ego, ego_lane, duration_s)
    actors += _cross_traffic(layout, rng, ego.speed)
    actors += _cycles_on_walkway(layout, rng, site)
    actors += _pedestrians(layout, rng)
    return actors


def _lane_traffic(layout: Layout, rng: np.random.Generator, ego: Track, ego_lane: Lane, duration_s: float) -> list:
    actors = []
    oncoming_waits = layout.cross is not None and rng.random() < 0.25
    bus_lane = next(lane for lane in layout.lanes if not lane.forward)
    for lane in layout.lanes:
        path = lane.path()
        length = Track(path).length
        if not lane.forward and oncoming_waits:
            stop_s = layout.cross_s + layout.cross_half_width + CROSSING_WIDTH_M + 3.5
            actors += _queue(rng, path, length * (LANE_REACH_M - stop_s) / (2 * LANE_REACH_M), lane is bus_lane)
            continue
        speed = ego.speed if lane is ego_lane else float(rng.uniform(4.0, 12.0))
        taken = [(ego.start - 9.0, ego.start + 9.0)] if lane is ego_lane else []
        if lane is bus_lane:
            size = draw_size(rng, "bus")
            at = length / 2 - speed * duration_s / 2 + float(rng.choice([-1, 1]) * rng.uniform(8, 35))
            actors.append(make_actor(rng, "bus", Track(path, at, speed), MOVING, size=size))
            taken.append((at - size[0] / 2 - 4, at + size[0] / 2 + 4))
        actors += _moving_column(rng, path, length, speed, taken)
    return actors


def _moving_column(
    rng: np.random.Generator, path: np.ndarray, length: float, speed: float, taken: list[tuple[float, float]]
) -> list[Actor]:
    """Draw vehicles that follow each other at one speed, outside the intervals `taken` along the path."""
    actors = []
    gap = float(rng.uniform(4, 12))
    at = length / 2 - POPULATED_M - speed * 4
    while at < length / 2 + POPULATED_M:
        at += 4.0 + float(rng.exponential(gap))
        train = _draw_train(rng, speed)
        extent = sum(size[0] for _, size in train) + 0.8 * (len(train) - 1)
        if any(at - 2 < high and at + extent + 2 > low for low, high in taken):
            continue
        rear = at
        for name, size in train:
            attribute = RIDER if name in ("motorcycle", "bicycle") else MOVING
            actors.append(make_actor(rng, name, Track(path, rear + size[0] / 2, speed), attribute, size=size))
            rear += size[0] + 0.8
        at = rear
    return actors


def _draw_train(rng: np.random.Generator, speed: float) -> list[tuple[str, np.ndarray]]:
    """Draw one vehicle, or a trailer and the truck before it: (class, size), rear first."""
    kind = str(rng.choice(list(LANE_MIX), p=list(LANE_MIX.values())))
    if kind == "articulated":
        return [("trailer", draw_size(rng, "trailer")), ("truck", draw_size(rng, "truck"))]
    if kind == "bicycle" and speed > BICYCLE_MAX_SPEED:
        kind = "motorcycle"
    look = f"{kind}_with_rider" if kind in ("motorcycle", "bicycle") else kind
    return [(kind, draw_size(rng, look))]


def _queue(rng: np.random.Generator, path: np.ndarray, stop_at: float, with_bus: bool, most: int = 5) -> list[Actor]:
    """Draw vehicles that wait behind a stop line at arc length `stop_at`."""
    actors, front = [], stop_at
    bus_at = int(rng.integers(2)) if with_bus else -1
    for i in range(int(rng.integers(2 if with_bus else 1, most + 1))):
        name = "bus" if i == bus_at else str(rng.choice(list(QUEUE_MIX), p=list(QUEUE_MIX.values())))
        attribute = RIDER if name == "motorcycle" else STOPPED
        size = draw_size(rng, f"{name}_with_rider" if name == "motorcycle" else name)
        track = Track(path, front - size[0] / 2)
        actors.append(
            make_actor(rng, name, Track(np.array([track.pose(0.0)[:2]]), yaw=track.pose(0.0)[2]), attribute, size=size)
        )
        front -= size[0] + float(rng.uniform(1.2, 3.0))
    return actors


def _cross_traffic(layout: Layout, rng: np.random.Generator, ego_speed: float) -> list[Actor]:
    actors = []
    for lane in layout.cross_lanes:
        path = lane.path()
        if lane.stop_s is not None:
            sign = 1 if lane.forward else -1
            actors += _queue(rng, path, LANE_REACH_M + sign * lane.stop_s - 1.0, False, most=3)
        elif lane.outgoing_from is not None:
            start = LANE_REACH_M + lane.outgoing_from + 16.0
            speed = ego_speed + float(rng.uniform(0.5, 3.0))
            for at in start + np.cumsum(rng.uniform(14, 45, size=2)):
                actors.append(make_actor(rng, "car", Track(path, float(at), speed), MOVING))
    return actors


def _parked_along_kerb(layout: Layout, rng: np.random.Generator, site: Site) -> list[Actor]:
    actors = []
    for side in (1, -1):
        if not layout.parking[side]:
            continue
        filled = rng.uniform(0.1, 0.45)
        d = side * (layout.kerb(side) - PARKING_WIDTH_M / 2)
        for s in np.arange(-POPULATED_M, POPULATED_M, 6.9):
            s = float(s + rng.uniform(-0.4, 0.4))
            if rng.random() > filled or _no_parking(layout, s, side):
                continue
            name = str(rng.choice(["car", "truck", "motorcycle"], p=[0.9, 0.05, 0.05]))
            x, y = layout.main.point(s, d)
            yaw = layout.main.heading(s) + (np.pi if side > 0 else 0.0) + rng.normal(0, 0.03)
            attribute = NO_RIDER if name == "motorcycle" else PARKED
            actors.append(place_static(rng, site, name, float(x), float(y), float(yaw), attribute, margin=0.05))
    return [actor for actor in actors if actor is not None]


def _no_parking(layout: Layout, s: float, side: int) -> bool:
    """Check whether a junction, crossing or building site keeps the parking strip free."""
    if layout.near_junction(s, CROSSING_WIDTH_M + 6.0):
        return True
    place = layout.main.point(s, 0.0)
    if layout.cross is None and any(
        np.hypot(*(np.array(area.centroid.coords[0]) - place)) < 7.0 for area in layout.areas["ped_crossing"]
    ):
        return True
    return any(lot.kind == "construction" and lot.side == side and lot.s0 - 5 < s < lot.s1 + 5 for lot in layout.lots)


def _lot_pose(layout: Layout, lot: Lot, s: float, depth: float) -> tuple[float, float]:
    x, y = layout.main.point(s, lot.side * (lot.d_near + depth))
    return float(x), float(y)


def _car_park(layout: Layout, lot: Lot, rng: np.random.Generator, site: Site) -> list[Actor]:
    actors, filled = [], rng.uniform(0.1, 0.4)
    for depth in (3.2, 13.0):
        for s in np.arange(lot.s0 + 2, lot.s1 - 2, 2.9):
            if rng.random() > filled:
                continue
            yaw = layout.main.heading(s) + rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.05)
            name = "car" if rng.random() < 0.97 else "truck"
            actors.append(
                place_static(rng, site, name, *_lot_pose(layout, lot, s, depth), float(yaw), PARKED, margin=0.03)
            )
    return [actor for actor in actors if actor is not None]


def _building_site(layout: Layout, lot: Lot, rng: np.random.Generator, site: Site) -> list[Actor]:
    """Draw a building site: barriers, cones on the carriageway, machines, a parked trailer, trucks and workers."""
    actors: list[Actor | None] = []
    heading = layout.main.heading((lot.s0 + lot.s1) / 2)
    parking = layout.parking[lot.side]  # cones close the strip off; without one they stand on the walkway's edge
    kerb_d = layout.kerb(lot.side) + (0.4 - PARKING_WIDTH_M if parking else 0.35)
    for s in np.arange(lot.s0 + 1, lot.s1 - 1, rng.uniform(1.8, 4.0)):
        if not layout.near_junction(s, 6.0):
            x, y = layout.main.point(s, lot.side * kerb_d)
            actors.append(
                place_static(
                    rng,
                    site,
                    "traffic_cone",
                    float(x),
                    float(y),
                    float(rng.uniform(-3, 3)),
                    ground=0.0 if parking else KERB_HEIGHT_M,
                )
            )
    first, last = lot.s0 + rng.uniform(1.5, 4), lot.s1 - rng.uniform(1.5, 6)
    for s in np.arange(first, last, 2.85):
        yaw = layout.main.heading(s) - lot.side * np.pi / 2 + rng.normal(0, 0.04)
        actors.append(place_static(rng, site, "barrier", *_lot_pose(layout, lot, s, 0.5), float(yaw), margin=0.02))
    wanted = ["trailer", "construction_vehicle"] + ["construction_vehicle", "truck"] * int(rng.integers(0, 2))
    for name in wanted:
        for _ in range(30):
            yaw = heading + (rng.choice([0, np.pi]) if name == "trailer" else rng.uniform(-np.pi, np.pi))
            s = rng.uniform(lot.s0 + 5, lot.s1 - 5) if lot.s1 - lot.s0 > 12 else (lot.s0 + lot.s1) / 2
            x, y = _lot_pose(layout, lot, s, rng.uniform(4.5, lot.depth - 4.5))
            actor = place_static(rng, site, name, x, y, float(yaw + rng.normal(0, 0.1)), PARKED, margin=0.4)
            if actor is not None:
                actors.append(actor)
                break
    for _ in range(int(rng.integers(1, 5))):
        x, y = _lot_pose(layout, lot, rng.uniform(lot.s0 + 1, lot.s1 - 1), rng.uniform(1.5, 12))
        actors.append(place_static(rng, site, "pedestrian", x, y, float(rng.uniform(-3, 3)), "pedestrian.standing"))
    return [actor for actor in actors if actor is not None]


def _cycles_on_walkway(layout: Layout, rng: np.random.Generator, site: Site) -> list[Actor]:
    """Draw motorcycles and bicycles parked beside the kerb, and bicycles ridden along the walkway."""
    actors: list[Actor | None] = []
    for name, count in (("motorcycle", 1 + rng.poisson(0.8)), ("bicycle", 1 + rng.poisson(1.0))):
        for i in range(count):
            side = int(rng.choice([-1, 1]))
            s = float(rng.uniform(-18, 18) if i == 0 else rng.uniform(-60, 60))
            if layout.near_junction(s, 6.0):
                s = layout.cross_s - np.sign(layout.cross_s) * (layout.cross_half_width + 9.0)
            for shift in (0.0, 3.0, -3.0, 6.0):
                x, y = layout.main.point(s + shift, side * (layout.kerb(side) + 0.6))
                yaw = layout.main.heading(s) + rng.choice([0, np.pi]) + rng.normal(0, 0.25)
                actor = place_static(rng, site, name, float(x), float(y), float(yaw), NO_RIDER, KERB_HEIGHT_M, 0.03)
                actors.append(actor)
                if actor is not None:
                    break
    for _ in range(rng.poisson(3.0)):
        actors.append(_walker(layout, rng, "bicycle", RIDER, float(rng.uniform(2.5, 5.0)), float(rng.uniform(-50, 50))))
    return [actor for actor in actors if actor is not None]


def _walker(layout: Layout, rng: np.random.Generator, name: str, attribute: str, speed: float, s: float) -> Actor:
    """Draw an object that moves along a walkway, clear of the strip beside the kerb where things stand."""
    side = int(rng.choice([-1, 1]))
    d = side * (layout.kerb(side) + rng.uniform(1.35, layout.walkway_width - 0.35))
    sign = int(rng.choice([-1, 1]))
    path = layout.main.line(-sign * LANE_REACH_M, sign * LANE_REACH_M, d, step=1.0)
    start = Track(path).length * (LANE_REACH_M + sign * s) / (2 * LANE_REACH_M)
    ground = 0.0 if layout.near_junction(s, 3.0) and side in layout.arms else KERB_HEIGHT_M
    return make_actor(rng, name, Track(path, start, speed), attribute, ground)


def _pedestrians(layout: Layout, rng: np.random.Generator) -> list[Actor]:
    actors = []
    for _ in range(2 * rng.poisson(WALKERS / 2) + 3):
        walks = rng.random() < 0.75
        speed = float(np.clip(rng.normal(1.35, 0.25), 0.6, 2.2)) if walks else 0.0
        actors.append(
            _walker(
                layout,
                rng,
                "pedestrian",
                "pedestrian.moving" if walks else "pedestrian.standing",
                speed,
                float(rng.uniform(-70, 70)),
            )
        )
    for arm in layout.arms[:1] if 1 in layout.arms else ():
        s = arm * (layout.kerb(arm) + 0.6 + CROSSING_WIDTH_M / 2)
        assert layout.cross is not None, "it has an arm"
        for _ in range(int(rng.integers(0, 4))):
            sign = int(rng.choice([-1, 1]))
            d = layout.cross_half_width + 1.0
            ends = layout.cross.point(s + rng.uniform(-1.2, 1.2), np.array([-sign * d, sign * d]))
            speed = float(rng.uniform(1.0, 1.6))
            far = ends[1] + (ends[1] - ends[0]) * 3
            start = float(rng.uniform(0, 2 * d))
            actors.append(
                make_actor(rng, "pedestrian", Track(np.array([ends[0], far]), start, speed), "pedestrian.moving")
            )
    return actors


def ego_corridor(ego: Track, duration_s: float) -> Polygon:
    """Area that the ego vehicle covers along its drive, where nothing may stand."""
    rectangles = [footprint(*ego.pose(t), 5.0, 2.4) for t in np.arange(-0.5, duration_s + 0.5, 0.25)]
    return cast(Polygon, unary_union(rectangles))
