"""docs/gallery.md: a row for each configuration that ships, with the parameters that it has and its package's figures.

test_every_model.py holds GFLOPs of the small models to it, where they are counted anyway.
"""

import json
import re

import pytest
from support.gallery import REPOSITORY, documented_costs
from torch._subclasses.fake_tensor import FakeTensorMode

from vexkd_model.config import load_config
from vexkd_model.model import build_model

CONFIGURATIONS = sorted((REPOSITORY / "config" / "model").glob("*.yaml"))


def test_every_configuration_that_ships_is_there():
    assert sorted(documented_costs()) == [path.stem for path in CONFIGURATIONS]


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_parameters_are_those_of_the_model(path):
    with FakeTensorMode():  # no memory and no random numbers for 80 million weights
        model = build_model(load_config(path))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert documented_costs()[path.stem].parameters == f"{parameters / 1e6:.2f} M"


def test_accuracy_is_that_of_the_packages_cards():
    text = (REPOSITORY / "docs" / "gallery.md").read_text(encoding="utf-8")
    found = re.findall(r"([\d.]+ / [\d.]+ / [\d.]+), \[\w+\]\(\.\./models/(\w+)/card\.json\)", text)
    shipped = [path.parent.name for path in (REPOSITORY / "models").glob("*/card.json")]
    assert sorted(package for _, package in found) == sorted(shipped)
    for figures, package in found:
        card = json.loads((REPOSITORY / "models" / package / "card.json").read_text(encoding="utf-8"))
        row = next(row for row in text.splitlines() if f"{package}/card.json" in row)
        assert f"[{card['name']}](" in row
        metrics = card["metrics"]
        values = metrics["detection"]["mean_ap"], metrics["detection"]["nd_score"], metrics["map"]["mean_iou"]
        assert figures == " / ".join(f"{value:.3f}" for value in values)
