"""Tables that a person reads and files that a program reads."""

from vexkd_model.evaluation.detection import DetectionResult
from vexkd_model.evaluation.map_iou import MapResult
from vexkd_model.evaluation.report import latency_table, metrics_table
from vexkd_model.figures.palette import DETECTION_COLOURS, MAP_COLOURS
from vexkd_model.types import DETECTION_CLASSES, MAP_CLASSES

ERRORS = {"trans_err": 0.21, "scale_err": 0.2, "orient_err": 0.3, "vel_err": 0.4, "attr_err": 0.5}
DETECTION = DetectionResult(
    mean_ap=0.25,
    nd_score=0.375,
    class_ap={name: 0.1 * i for i, name in enumerate(DETECTION_CLASSES)},
    tp_errors=ERRORS,
    ground_truth={name: i for i, name in enumerate(DETECTION_CLASSES)},
    samples=7,
)
MAPS = MapResult(
    mean_iou=0.5,
    class_iou={name: 0.1 * i for i, name in enumerate(MAP_CLASSES)},
    best_threshold=dict.fromkeys(MAP_CLASSES, 0.45),
    absent=("drivable_area",),
    samples=7,
)


def row(table, name):
    return next(line for line in table.splitlines() if line.startswith(name)).removeprefix(name).split()


def test_every_class_has_its_row_and_the_means_stand_last():
    table = metrics_table(DETECTION, MAPS)
    for i, name in enumerate(DETECTION_CLASSES):
        assert row(table, name) == [f"{0.1 * i:.3f}", str(i)]
    for i, name in enumerate(MAP_CLASSES):
        assert row(table, name) == [f"{0.1 * i:.3f}", "0.45"]
    assert row(table, "mean (mAP)") == ["0.250", "45"]
    assert row(table, "NDS") == ["0.375"]
    assert row(table, "mean (mIoU)") == ["0.500"]


def test_classes_without_ground_truth_are_named_under_each_table():
    table = metrics_table(DETECTION, MAPS)
    assert "no ground truth in range for car: AP 0 by definition" in table
    assert "no ground truth for drivable_area: IoU 0 by definition" in table


def test_the_errors_of_matches_carry_their_units():
    (line,) = (line for line in metrics_table(DETECTION, None).splitlines() if line.startswith("errors"))
    for figure in ("0.21 m", "0.30 rad", "0.40 m/s"):
        assert figure in line


def test_either_half_may_be_absent():
    assert "mIoU" not in metrics_table(DETECTION, None)
    assert "mAP" not in metrics_table(None, MAPS)
    assert metrics_table(None, None) == ""


def test_figures_stand_in_columns():
    lines = metrics_table(None, MAPS).splitlines()
    assert len({len(line) for line in lines[2:8]}) == 1


def test_latencies_are_given_in_milliseconds():
    table = latency_table({"inference": [0.001 * i for i in range(1, 102)], "nothing": []})
    assert row(table, "inference") == ["101", "51.0", "91.0", "100.0", "101.0"]
    assert row(table, "nothing") == ["0", "–", "–", "–", "–"]


def test_every_class_has_a_colour_of_its_own():
    for names, colours in ((DETECTION_CLASSES, DETECTION_COLOURS), (MAP_CLASSES, MAP_COLOURS)):
        assert tuple(colours) == names
        assert len(set(colours.values())) == len(names)
        assert all(0 <= channel <= 255 for colour in colours.values() for channel in colour)
