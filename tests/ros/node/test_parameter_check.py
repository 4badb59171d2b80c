"""Parameters that nobody reads are said to be unused, and a value of a wrong type how it is written."""

import pytest

from vexkd_ros.parameter_check import names_node


@pytest.mark.parametrize(
    ("section", "node", "is_named"),
    [
        ("/**", "/student_node", True),
        ("/**", "/robot1/student_node", True),
        ("/student_node", "/student_node", True),
        ("/student_node", "/robot1/student_node", False),
        ("/*", "/student_node", True),
        ("/*", "/robot1/student_node", False),
        ("/*/student_node", "/robot1/student_node", True),
        ("/**/student_node", "/student_node", True),
        ("/**/student_node", "/a/b/student_node", True),
        ("/student", "/student_node", False),
    ],
)
def test_a_section_names_the_nodes_that_rcl_gives_it_to(section, node, is_named):
    assert names_node(section, node) is is_named


@pytest.fixture(scope="module")
def processes(start_node, package, tmp_path_factory):
    """All at once: each spends its time on imports."""
    other = tmp_path_factory.mktemp("parameters") / "other.yaml"
    other.write_text("perception:\n  detector_node:\n    ros__parameters:\n      score_threshold: 0.9\n")
    return {
        "misspelt": start_node(model=package, score_treshold=0.5),
        "other node": start_node("--params-file", str(other), model=package),
        "no fraction": start_node(model=package, score_threshold=1),
        "quotes": start_node(model=7),
    }


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("misspelt", "parameter score_treshold: this node has none of that name; did you mean score_threshold?"),
        (
            "other node",
            "its parameters are for /perception/detector_node; this node is /student_node, so none of them is",
        ),
    ],
)
def test_what_is_not_read_is_named_and_the_node_starts(processes, case, said):
    node = processes[case]
    while "active, waiting" not in node.log:
        assert node.process.poll() is None, node.log
    assert said in node.log
    assert node.stop() == 0
    assert node.log.count("WARN") == 1


@pytest.mark.parametrize(("case", "said"), [("no fraction", "is written 1.0"), ("quotes", "put it in quotes")])
def test_a_value_of_a_wrong_type_is_refused_with_how_to_write_it(processes, case, said):
    node = processes[case]
    assert node.ended() == 1
    assert node.log.strip().endswith(said) or said in node.log.splitlines()[-1]
