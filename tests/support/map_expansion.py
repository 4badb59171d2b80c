"""The JSON of the nuScenes map expansion, of the street's polygons and lines."""

import numpy as np

from support.street import to_global


def map_expansion(polygons: dict, holes: dict, lines: dict) -> dict:
    """The JSON of the map expansion 1.3; coordinates of the street, the first polygon of a layer gets its holes."""
    nodes, polygon_rows, line_rows = [], [], []

    def add_nodes(coordinates: list[tuple[float, float]]) -> list[str]:
        tokens = [f"node{len(nodes) + i}" for i in range(len(coordinates))]
        nodes.extend(
            {"token": token, "x": float(x), "y": float(y)}
            for token, (x, y) in zip(tokens, to_global(np.array(coordinates)), strict=True)
        )
        return tokens

    layers: dict[str, list] = {
        name: []
        for name in (
            "drivable_area",
            "road_segment",
            "road_block",
            "lane",
            "ped_crossing",
            "walkway",
            "stop_line",
            "carpark_area",
            "road_divider",
            "lane_divider",
            "traffic_light",
            "lane_connector",
        )
    }
    for layer, shapes in polygons.items():
        for i, shape in enumerate(shapes):
            token = f"{layer}{i}"
            inner = [{"node_tokens": add_nodes(hole)} for hole in holes.get(layer, ())] if i == 0 else []
            polygon_rows.append({"token": token, "exterior_node_tokens": add_nodes(shape), "holes": inner})
            key = {"polygon_tokens": [token]} if layer == "drivable_area" else {"polygon_token": token}
            cue = {"stop_line_type": "STOP_SIGN"} if layer == "stop_line" else {}
            layers[layer].append({"token": token, **key, **cue})
    for layer, shapes in lines.items():
        for i, shape in enumerate(shapes):
            token = f"{layer}{i}"
            line_rows.append({"token": token, "node_tokens": add_nodes(shape)})
            layers[layer].append({"token": token, "line_token": token})
    return {
        "version": "1.3",
        "canvas_edge": [1585.6, 2025.0],
        "polygon": polygon_rows,
        "line": line_rows,
        "node": nodes,
        **layers,
        "arcline_path_3": {},
        "connectivity": {},
    }
