"""Map expansion (JSON, version 1.3) of one town, from the plans of its scenes."""

from typing import Any

import numpy as np
from shapely.geometry import LineString, Polygon

from vexkd_model.data.scene_tables import token
from vexkd_model.synth.layout import CROSSING_WIDTH_M, REACH_M, Layout, main_square, polygons_of
from vexkd_model.synth.presets import PATCH_EDGE_M

POLYGON_LAYERS = (
    "drivable_area",
    "road_segment",
    "road_block",
    "lane",
    "ped_crossing",
    "walkway",
    "stop_line",
    "carpark_area",
)
LINE_LAYERS = ("road_divider", "lane_divider")
EMPTY_LAYERS = ("traffic_light", "lane_connector")


def scene_geometry(layout: Layout, offset: np.ndarray) -> dict[str, list[list]]:
    """List each map layer's polygons (outer ring, holes …) and lines, in the map's frame [m], for JSON."""
    patch = main_square()
    areas = {**layout.areas, **_road_areas(layout)}
    geometry: dict[str, list[list]] = {}
    for layer in POLYGON_LAYERS:
        polygons = [part for polygon in areas[layer] for part in polygons_of(polygon.intersection(patch))]
        geometry[layer] = [[_coordinates(ring, offset) for ring in (p.exterior, *p.interiors)] for p in polygons]
    for layer in LINE_LAYERS:
        clipped = [LineString(line).intersection(patch) for line in layout.dividers[layer] if len(line) > 1]
        geometry[layer] = [
            _coordinates(part, offset)
            for line in clipped
            for part in getattr(line, "geoms", [line])
            if not part.is_empty
        ]
    return geometry


def _coordinates(line: LineString, offset: np.ndarray) -> list[list[float]]:
    points = np.asarray(line.coords) + offset
    return (points[:-1] if line.is_ring else points).tolist()


def _road_areas(layout: Layout) -> dict[str, list[Polygon]]:
    """Cut the roads into lanes, road blocks (lanes of one direction) and road segments."""
    main, width = layout.main, layout.lane_width
    spans, segments = [(-REACH_M, REACH_M)], []
    if layout.cross is not None:
        margin = layout.cross_half_width + CROSSING_WIDTH_M + 2.0
        spans = [(-REACH_M, layout.cross_s - margin), (layout.cross_s + margin, REACH_M)]
        segments.append(main.strip(layout.cross_s - margin, layout.cross_s + margin, layout.d_right, layout.d_left))
    lanes = [main.strip(*span, lane.d - width / 2, lane.d + width / 2) for span in spans for lane in layout.lanes]
    blocks = [main.strip(*span, d0, d1) for span in spans for d0, d1 in ((layout.d_right, 0.0), (0.0, layout.d_left))]
    segments += [main.strip(*span, layout.d_right, layout.d_left) for span in spans]
    return {"lane": lanes, "road_block": blocks, "road_segment": segments}


def map_expansion(town: str, scenes: dict[str, dict[str, list]], canvas_edge: tuple[float, float]) -> dict:
    """Make the content of maps/expansion/TOWN.json. scenes: scene name → its `scene_geometry`."""
    layers: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("polygon", "line", "node", *POLYGON_LAYERS, *LINE_LAYERS, *EMPTY_LAYERS)
    }
    for scene, geometry in scenes.items():

        def add_nodes(points: list, *name: object, scene: str = scene) -> list[str]:
            tokens = [token(town, scene, "node", *name, i) for i in range(len(points))]
            layers["node"] += [{"token": t, "x": x, "y": y} for t, (x, y) in zip(tokens, points, strict=True)]
            return tokens

        for layer in POLYGON_LAYERS:
            for i, (exterior, *holes) in enumerate(geometry[layer]):
                own = token(town, scene, layer, i)
                polygon = token(town, scene, "polygon", layer, i)
                layers["polygon"].append(
                    {
                        "token": polygon,
                        "exterior_node_tokens": add_nodes(exterior, layer, i),
                        "holes": [
                            {"node_tokens": add_nodes(hole, layer, i, "hole", j)} for j, hole in enumerate(holes)
                        ],
                    }
                )
                layers[layer].append({"token": own, **_polygon_record(layer, polygon)})
        for layer in LINE_LAYERS:
            for i, points in enumerate(geometry[layer]):
                line = token(town, scene, "line", layer, i)
                nodes = add_nodes(points, layer, i)
                layers["line"].append({"token": line, "node_tokens": nodes})
                record: dict[str, Any] = {"token": token(town, scene, layer, i), "line_token": line}
                if layer == "road_divider":
                    record["road_segment_token"] = None
                else:
                    record["lane_divider_segments"] = [
                        {"node_token": node, "segment_type": "DASHED_SEGMENT_WHITE"} for node in nodes
                    ]
                layers[layer].append(record)
    return {"version": "1.3", "canvas_edge": list(canvas_edge), **layers, "arcline_path_3": {}, "connectivity": {}}


def _polygon_record(layer: str, polygon: str) -> dict:
    """Fields that the devkit reads of each polygonal layer."""
    extra = {
        "drivable_area": {"polygon_tokens": [polygon]},
        "road_segment": {"is_intersection": False},
        "lane": {"lane_type": "CAR", "left_lane_divider_segments": [], "right_lane_divider_segments": []},
        "stop_line": {
            "stop_line_type": "YIELD",
            "ped_crossing_tokens": [],
            "traffic_light_tokens": [],
            "road_block_token": None,
        },
    }.get(layer, {})
    return extra if layer == "drivable_area" else {"polygon_token": polygon, **extra}


def canvas_of(slots: list[int]) -> tuple[float, float]:
    """Width and height [m] of a map that holds the patches of these slots, eight to a row."""
    return (max(slot % 8 for slot in slots) + 1) * PATCH_EDGE_M, (max(slot // 8 for slot in slots) + 1) * PATCH_EDGE_M
