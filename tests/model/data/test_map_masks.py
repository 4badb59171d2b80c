"""Map masks against the devkit's own rasteriser, and against areas that were drawn by hand."""

import json
import math

import numpy as np
import pytest
from nuscenes.map_expansion.map_api import NuScenesMap, NuScenesMapExplorer
from support.map_expansion import map_expansion
from support.street import HEADING, LOCATION, rotation, to_global

from vexkd_model.data.map_masks import LAYERS_OF_CLASS, MapRasteriser
from vexkd_model.types import MAP_CLASSES, SEGMENTATION_GRID


def pose(x, y, yaw):
    """global_from_base of a vehicle at x, y, yaw on the street."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:2, 3] = rotation(HEADING + yaw), to_global([x, y])
    return matrix


def star(random, x, y, reach, corners):
    """A simple polygon around (x, y)."""
    angles = np.sort(random.uniform(0, 2 * np.pi, corners))
    radii = random.uniform(0.4, 1.0, corners) * reach
    return [(x + r * math.cos(a), y + r * math.sin(a)) for a, r in zip(angles, radii, strict=True)]


@pytest.fixture(scope="module")
def wild_town(tmp_path_factory):
    """Polygons of any shape, with holes, and lines that leave the patch."""
    random, root = np.random.default_rng(5), tmp_path_factory.mktemp("town")
    centres = random.uniform(-70, 70, (10, 2))
    polygons = {
        layer: [star(random, x, y, 25, 9) for x, y in centres]
        for layer in ("drivable_area", "ped_crossing", "walkway", "stop_line", "carpark_area")
    }
    x, y = centres[0]
    polygons["walkway"][0] = [(x - 9, y - 9), (x + 9, y - 9), (x + 9, y + 9), (x - 9, y + 9)]
    holes = {"walkway": [[(x - 4, y - 3), (x - 4, y + 5), (x + 4, y + 5), (x + 4, y - 3)]]}
    starts = [np.array([-60, 5 * i]) for i in range(-4, 5)]
    lines = {
        layer: [(np.cumsum(random.normal([9, 0], 6, (12, 2)), axis=0) + start).tolist() for start in starts]
        for layer in ("road_divider", "lane_divider")
    }
    (root / "maps" / "expansion").mkdir(parents=True)
    (root / "maps" / "expansion" / f"{LOCATION}.json").write_text(json.dumps(map_expansion(polygons, holes, lines)))
    return root


@pytest.fixture
def patient_devkit(monkeypatch):
    """The devkit with its one mistake mended: a line that leaves the patch and comes back is drawn, part by part."""
    draw_line = NuScenesMapExplorer.mask_for_lines

    def draw(lines, mask):
        for line in getattr(lines, "geoms", [lines]):
            mask = draw_line(line, mask)
        return mask

    monkeypatch.setattr(NuScenesMapExplorer, "mask_for_lines", staticmethod(draw))


def devkit_masks(town, global_from_base):
    """bool (6, Y, X) of NuScenesMap.get_map_mask, turned the way BEVFusion and this project index their maps."""
    x, y = global_from_base[:2, 3]
    yaw = math.degrees(math.atan2(global_from_base[1, 0], global_from_base[0, 0]))
    layers = sorted({layer for layers in LAYERS_OF_CLASS.values() for layer in layers})
    masks = dict(zip(layers, town.get_map_mask((x, y, 100.0, 100.0), yaw, layers, (200, 200)), strict=True))
    return np.stack([np.any([masks[layer] for layer in LAYERS_OF_CLASS[name]], axis=0) for name in MAP_CLASSES])


@pytest.mark.parametrize("where", [(0, 0, 0), (10.3, -4.2, 0.7), (-25.1, 3.3, 2.9), (30.7, 20.2, -1.6), (0, 0, 1.571)])
@pytest.mark.usefixtures("patient_devkit")
def test_masks_equal_the_devkits_cell_for_cell(wild_town, where):
    global_from_base = pose(*where)
    expected = devkit_masks(NuScenesMap(str(wild_town), LOCATION), global_from_base)
    found = MapRasteriser(wild_town, LOCATION).masks(global_from_base)
    assert found.shape == (6, *SEGMENTATION_GRID.shape) and found.dtype == bool
    assert expected.any(axis=(1, 2)).sum() >= 5
    # Rounding of coordinates that come to a cell's border by another sequence of operations may tip single cells.
    assert (found != expected).mean() < 2e-4


def value_at(mask, x, y):
    grid = SEGMENTATION_GRID
    return mask[int((y - grid.y_min) / grid.cell), int((x - grid.x_min) / grid.cell)]


def test_the_street_lies_where_it_was_drawn(tiny_index):
    masks = dict(zip(MAP_CLASSES, tiny_index.map_mask(0), strict=True))
    assert value_at(masks["drivable_area"], 30, 5) and not value_at(masks["drivable_area"], 30, 9.5)
    assert value_at(masks["walkway"], 30, 9.5) and value_at(masks["walkway"], -40, -10.5)
    assert value_at(masks["ped_crossing"], 18, -6) and not value_at(masks["ped_crossing"], 12, -6)
    assert value_at(masks["stop_line"], 14.7, -4) and not value_at(masks["stop_line"], 14.7, 4)
    assert value_at(masks["carpark_area"], -25, 15) and not value_at(masks["carpark_area"], -17, 19)  # its hole
    assert value_at(masks["divider"], 40, 0) and value_at(masks["divider"], -30, -4)
    assert not value_at(masks["divider"], 40, 4)


def test_the_street_moves_back_as_the_vehicle_drives_on(tiny_index):
    first, third = (tiny_index.map_mask(i)[MAP_CLASSES.index("ped_crossing")] for i in (0, 2))
    np.testing.assert_allclose(np.argwhere(third).mean(axis=0) - np.argwhere(first).mean(axis=0), [0, -10], atol=0.6)


def test_areas_in_cells_agree_with_areas_in_metres(tiny_index):
    masks = dict(zip(MAP_CLASSES, tiny_index.map_mask(0), strict=True))
    # A polygon that is drawn on cells includes its border: half a cell more on every side.
    assert masks["drivable_area"].sum() * 0.25 == pytest.approx(100 * 16.5, rel=0.01)
    assert masks["ped_crossing"].sum() * 0.25 == pytest.approx(4.5 * 16.5, rel=0.02)


def test_far_from_every_street_nothing_is_drawn(tiny_dataroot):
    assert not MapRasteriser(tiny_dataroot, LOCATION).masks(pose(700.0, 700.0, 1.0)).any()
