"""The page on architecture names files that exist, and counts them right."""

import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "architecture.md").read_text()


def chain(title):
    """Files of a chain's numbered lines, and the number that its title states."""
    stated = re.search(rf"\*\*{re.escape(title)}: (\d+) files", PAGE)
    numbered = PAGE[stated.end() :].split("\n\n")[1]
    return int(stated[1]), re.findall(r"^\d+\. `([^`]+)`", numbered, re.MULTILINE)


def test_every_file_and_folder_that_is_named_exists():
    named = re.findall(r"`((?:vexkd_model|vexkd_ros|tests)/[\w/.]+)`", PAGE)
    assert len(named) > 30
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


@pytest.mark.parametrize(
    ("title", "most"),
    [("PointCloud2 → detections", 15), ("Batch → distillation loss", 7), ("nuScenes folder → Batch", 9)],
)
def test_a_chain_lists_as_many_files_as_it_states_and_stays_within_its_limit(title, most):
    stated, files = chain(title)
    assert len(set(files)) == len(files) == stated <= most


def test_imports_between_folders_of_the_model_package_make_no_circle():
    folder_of = {
        path: path.relative_to(REPOSITORY / "vexkd_model").parts[0].removesuffix(".py")
        for path in (REPOSITORY / "vexkd_model").rglob("*.py")
    }
    imports = {folder: set() for folder in folder_of.values()}
    for path, folder in folder_of.items():
        imports[folder] |= set(re.findall(r"^\s*from vexkd_model\.(\w+)", path.read_text(), re.MULTILINE)) - {folder}
    order = list(TopologicalSorter(imports).static_order())
    assert order.index("data") < order.index("model") < order.index("training") < order.index("cli")
