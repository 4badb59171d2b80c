"""Colours of classes, for every picture and every ROS message: RGB, 0 … 255.

Related classes have related hues: vehicles warm or blue, two-wheelers purple, people red, street furniture orange.
"""

Rgb = tuple[int, int, int]

# Of runs and curves side by side: Okabe and Ito's, which colour-blind eyes tell apart.
SERIES_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")

DETECTION_COLOURS: dict[str, Rgb] = {
    "car": (31, 119, 220),
    "truck": (0, 158, 142),
    "construction_vehicle": (188, 148, 0),
    "bus": (96, 72, 200),
    "trailer": (92, 158, 220),
    "barrier": (140, 90, 60),
    "motorcycle": (200, 60, 190),
    "bicycle": (230, 110, 170),
    "pedestrian": (220, 40, 50),
    "traffic_cone": (245, 130, 10),
}
MAP_COLOURS: dict[str, Rgb] = {
    "drivable_area": (184, 196, 208),
    "ped_crossing": (240, 140, 130),
    "walkway": (176, 214, 150),
    "stop_line": (226, 60, 60),
    "carpark_area": (250, 205, 120),
    "divider": (110, 80, 190),
}
