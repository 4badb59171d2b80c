"""Bird's-eye-view masks of the six map classes from a map expansion of nuScenes or in its format."""

import json
from pathlib import Path

import cv2
import numpy as np
import shapely
from nuscenes.map_expansion.arcline_path_utils import discretize_lane
from shapely import affinity
from shapely.geometry import LineString, Point, Polygon, box
from shapely.geometry.base import BaseGeometry
from shapely.strtree import STRtree

from vexkd_model.errors import UserError
from vexkd_model.geometry.transforms import yaw_of
from vexkd_model.types import MAP_CLASSES, SEGMENTATION_GRID, BevGrid

LAYERS_OF_CLASS = {name: (name,) for name in MAP_CLASSES} | {"divider": ("road_divider", "lane_divider")}
OLDEST_VERSION = "1.3"  # before it, the devkit says, layers were wrong
LINE_THICKNESS = 2  # cv2 draws three cells, 1.5 m: what every published mIoU was measured with


def expansion_path(dataroot: Path, location: str) -> Path:
    """Path of the map expansion of one location."""
    return Path(dataroot) / "maps" / "expansion" / f"{location}.json"


class MapRasteriser:
    """Rasteriser of one location's map on a BEV grid, cell for cell as `NuScenesMap.get_map_mask`.

    The devkit's own rasteriser crashes where a divider leaves and re-enters the patch, tests every record of the town
    for every frame, and knows four towns; here a spatial index finds the few records that matter, of any location. A
    file needs `node`, `polygon`, `line` and the layers of LAYERS_OF_CLASS; lanes only for `centrelines`.

    UserError names a file that is missing or of another kind.
    """

    def __init__(self, dataroot: Path, location: str, grid: BevGrid = SEGMENTATION_GRID) -> None:
        path = expansion_path(dataroot, location)
        if not path.is_file():
            raise UserError(f"{path}: map expansion is missing; unpack nuScenes-map-expansion into {path.parents[1]}")
        try:
            content = json.loads(path.read_text())
            version = content.get("version", "1.0")
            if version < OLDEST_VERSION:
                raise ValueError(f"outdated version {version}")
            town = _Town(content)
            self._geometries = {
                layer: town.geometries(layer) for layers in LAYERS_OF_CLASS.values() for layer in layers
            }
            self._lanes: list[list[dict]] = list(content.get("arcline_path_3", {}).values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, shapely.GEOSException) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(f"{path}: not a map expansion ({reason}); unpack it again") from None
        self.grid = grid
        self._trees = {layer: STRtree(geometries) for layer, geometries in self._geometries.items()}

    def masks(self, global_from_base: np.ndarray) -> np.ndarray:
        """Masks bool (6, Y, X) in base_link at the ego pose `global_from_base` (4, 4); roll and pitch are ignored."""
        return np.stack([self.mask(name, global_from_base) for name in MAP_CLASSES])

    def mask(self, name: str, global_from_base: np.ndarray) -> np.ndarray:
        """Mask bool (Y, X) of one of MAP_CLASSES."""
        return np.any([self._layer_mask(layer, global_from_base) for layer in LAYERS_OF_CLASS[name]], axis=0)

    def outlines(self, name: str, area: BaseGeometry) -> list[np.ndarray]:
        """Lines and polygon outlines of one of MAP_CLASSES, cut to `area`.

        float64 (N, 2) each, in nuScenes' global frame [m].
        """
        shapes = [
            self._geometries[layer][i]
            for layer in LAYERS_OF_CLASS[name]
            for i in np.sort(self._trees[layer].query(area, predicate="intersects"))
        ]
        lines = [shape if shape.geom_type == "LineString" else shape.boundary for shape in shapes]
        parts = [part for line in lines for part in _parts(line.intersection(area))]
        return [np.array(part.coords) for part in parts if part.geom_type == "LineString"]

    def centrelines(self, area: BaseGeometry) -> list[np.ndarray]:
        """Centre lines of the lanes that begin or end in `area`, one point per metre.

        float64 (N, 2) each, in nuScenes' global frame [m].
        """
        ends = [(lane[0]["start_pose"][:2], lane[-1]["end_pose"][:2]) for lane in self._lanes]
        near = [
            lane
            for lane, (start, end) in zip(self._lanes, ends, strict=True)
            if area.contains(Point(start)) or area.contains(Point(end))
        ]
        return [np.array(discretize_lane(lane, resolution_meters=1.0))[:, :2] for lane in near]

    def _layer_mask(self, layer: str, global_from_base: np.ndarray) -> np.ndarray:
        grid, mask = self.grid, np.zeros(self.grid.shape, np.uint8)
        patch_in_base = box(grid.x_min, grid.y_min, grid.x_max, grid.y_max)
        angle, (x, y) = yaw_of(global_from_base), global_from_base[:2, 3]
        cos, sin = np.cos(angle), np.sin(angle)
        patch = affinity.affine_transform(patch_in_base, [cos, -sin, sin, cos, x, y])
        # dst = R^T (p - t), then metres to cells, as one affine map
        metres_from_global = [cos, sin, -sin, cos, -cos * x - sin * y - grid.x_min, sin * x - cos * y - grid.y_min]
        cells_from_global = [value / grid.cell for value in metres_from_global]
        for i in np.sort(self._trees[layer].query(patch, predicate="intersects")):
            visible = self._geometries[layer][i].intersection(patch)
            _draw(affinity.affine_transform(visible, cells_from_global), mask)
        return mask.astype(bool)


class _Town:
    """Geometries of a map expansion, from its records."""

    def __init__(self, content: dict) -> None:
        self.layers = content
        self.places = {node["token"]: (node["x"], node["y"]) for node in content["node"]}
        self.polygons = {record["token"]: record for record in content["polygon"]}
        self.lines = {record["token"]: record for record in content["line"]}

    def geometries(self, layer: str) -> list[BaseGeometry]:
        """Lines of a divider or valid polygons of any other layer, in nuScenes' global frame [m]."""
        records = self.layers[layer]
        if layer.endswith("_divider"):
            lines = (self._line(record["line_token"]) for record in records)
            return [line for line in lines if not line.is_empty]
        if layer == "drivable_area":
            polygons = [self._polygon(token) for record in records for token in record["polygon_tokens"]]
            return [polygon if polygon.is_valid else polygon.buffer(0) for polygon in polygons]
        polygons = (self._polygon(record["polygon_token"]) for record in records)
        return [polygon for polygon in polygons if polygon.is_valid]

    def _line(self, token: str) -> LineString:
        return LineString(self._coordinates(self.lines[token]["node_tokens"]))

    def _polygon(self, token: str) -> Polygon:
        record = self.polygons[token]
        holes = (self._coordinates(hole["node_tokens"]) for hole in record["holes"])
        return Polygon(self._coordinates(record["exterior_node_tokens"]), [hole for hole in holes if hole])

    def _coordinates(self, nodes: list[str]) -> list[tuple[float, float]]:
        return [self.places[token] for token in nodes]


def _draw(geometry: BaseGeometry, mask: np.ndarray) -> None:
    """Draw a geometry by the devkit's conventions: polygons rounded to cells, holes cleared, lines truncated."""
    parts = _parts(geometry)
    polygons = [part for part in parts if isinstance(part, Polygon)]
    cv2.fillPoly(mask, [_rounded(polygon.exterior.coords) for polygon in polygons], (1,))
    cv2.fillPoly(mask, [_rounded(hole.coords) for polygon in polygons for hole in polygon.interiors], (0,))
    for line in parts:
        if isinstance(line, LineString):
            cv2.polylines(mask, [np.asarray(line.coords).astype(np.int32)], False, (1,), LINE_THICKNESS)


def _parts(geometry: BaseGeometry) -> list[BaseGeometry]:
    return list(getattr(geometry, "geoms", [geometry]))


def _rounded(coordinates: object) -> np.ndarray:
    return np.asarray(coordinates).round().astype(np.int32)
