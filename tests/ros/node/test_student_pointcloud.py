"""The PointCloud2 reader against bytes laid out by hand, and against ROS's own reader where that is installed."""

import struct
from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import PointCloud2, PointField

from vexkd_ros.inputs.errors import CloudError
from vexkd_ros.inputs.pointcloud import read_cloud, read_fields


def field(name: str, offset: int, datatype: int) -> PointField:
    return PointField(name=name, offset=offset, datatype=datatype, count=1)


def message_of(data: bytes, fields: list[PointField], **layout: object) -> PointCloud2:
    return PointCloud2(fields=fields, data=array("B", data), **layout)


NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 8: "d"}  # PointField's datatypes for struct
WHOLE = st.sampled_from([0, 1, 7, 100])
REAL = st.sampled_from([0.0, -0.0, 1.5, -77.25, 1e-30, 3e30, np.nan, np.inf, -np.inf])


@st.composite
def clouds(draw: st.DrawFn) -> tuple[PointCloud2, list[dict[str, float]]]:
    """Clouds of any layout, every second one with x, y and z side by side in float32, and their points as written."""
    usual, big_endian = draw(st.booleans()), draw(st.sampled_from([False, False, True]))
    names = ["x", "y", "z"] if usual else draw(st.permutations(["x", "y", "z"]))
    names += draw(st.permutations(draw(st.sampled_from([["intensity"], ["ring", "intensity"], ["ring"], []]))))
    gaps = {name: draw(st.sampled_from([0, 0, 1, 4])) for name in names}
    kinds = {name: 7 if usual and name in "xyz" else draw(st.sampled_from([*NUMBERS, 7])) for name in names}
    if usual:
        gaps["y"] = gaps["z"] = 0
    fields, step = [], 0
    for name in names:
        fields.append(field(name, step + gaps[name], kinds[name]))
        step = fields[-1].offset + struct.calcsize(NUMBERS[kinds[name]])
    step += draw(st.sampled_from([0, 2, 16]))
    height, width, padding = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.sampled_from([0, 5]))
    rows = np.full((height, width * step + padding), 0xAB, np.uint8)
    points = []
    for place in range(height * width):
        point = {name: draw(REAL if kinds[name] in (7, 8) else WHOLE) for name in names}
        for one in fields:
            at = place % width * step + one.offset
            struct.pack_into(
                (">" if big_endian else "<") + NUMBERS[one.datatype], rows[place // width], at, point[one.name]
            )
        points.append(point)
    layout = {"height": height, "width": width, "point_step": step, "row_step": rows.shape[1]}
    return message_of(rows.tobytes(), draw(st.permutations(fields)), is_bigendian=big_endian, **layout), points


@settings(max_examples=300, deadline=None)
@given(clouds(), st.sampled_from([1.0, 2.0]))
def test_a_cloud_of_any_layout_is_read_as_its_points_were_written(written, scale):
    message, points = written
    expected = [[point["x"], point["y"], point["z"], scale * point.get("intensity", 0.0)] for point in points]
    expected = np.array(expected, np.float32)
    expected[~np.isfinite(expected[:, 3]), 3] = 0
    returned = np.isfinite(expected[:, :3]).all(axis=1) & expected[:, :3].any(axis=1)
    before = bytes(message.data)
    cloud = read_cloud(message, intensity_scale=scale)
    np.testing.assert_array_equal(cloud.points, expected[returned])
    assert (cloud.points.dtype, cloud.points.shape[1]) == (np.float32, 4)
    assert cloud.removed == np.count_nonzero(~returned)
    assert bytes(message.data) == before


def test_fields_of_any_type_and_offset_are_read():
    # y as float64 first, then a byte of intensity, two bytes nobody knows, z as int16, x as float32.
    fields = [
        field("y", 0, PointField.FLOAT64),
        field("intensity", 8, PointField.UINT8),
        field("z", 11, PointField.INT16),
        field("x", 13, PointField.FLOAT32),
    ]
    data = b"".join(struct.pack("<dBxxhf", *row) for row in [(2.5, 200, -3, 1.25), (-7.0, 0, 4, 0.5)])
    cloud = read_cloud(message_of(data, fields, height=1, width=2, point_step=17, row_step=34))
    np.testing.assert_array_equal(cloud.points, [[1.25, 2.5, -3, 200], [0.5, -7, 4, 0]])
    assert cloud.points.dtype == np.float32


def test_big_endian_numbers_are_read():
    fields = [field(name, 4 * i, PointField.FLOAT32) for i, name in enumerate(("x", "y", "z", "intensity"))]
    data = struct.pack(">4f", 1, 2, 3, 4)
    cloud = read_cloud(message_of(data, fields, height=1, width=1, point_step=16, row_step=16, is_bigendian=True))
    np.testing.assert_array_equal(cloud.points, [[1, 2, 3, 4]])


def test_an_organised_cloud_with_padded_rows_is_read_row_by_row():
    fields = [field(name, i, PointField.INT8) for i, name in enumerate("xyz")]
    data = bytes([1, 2, 3, 4, 5, 6, 99, 99]) + bytes([7, 8, 9, 10, 11, 12])  # the last row may lack its padding
    cloud = read_cloud(message_of(data, fields, height=2, width=2, point_step=3, row_step=8))
    np.testing.assert_array_equal(cloud.points[:, :3], [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]])
    assert not cloud.has_intensity
    assert not cloud.points[:, 3].any()


def test_points_with_a_number_that_is_not_finite_in_float32_are_left_out(make_cloud):
    points = np.array([[1, 2, 3, 4], [np.nan, 0, 0, 0], [0, -np.inf, 0, 0], [1, 0, np.nan, 1], [1e300, 0, 0, 0]])
    cloud = read_cloud(make_cloud(points, kind="<f8"))
    np.testing.assert_array_equal(cloud.points, [[1, 2, 3, 4]])
    assert cloud.removed == 4


def test_rays_without_return_are_left_out_whether_they_are_nan_or_zero(make_cloud):
    rays = np.array([[0, 0, 0, 7], [0, 0, 0.5, 7], [-0.0, 0, 0, 0], [np.nan, np.nan, np.nan, 0]])
    cloud = read_cloud(make_cloud(rays))
    np.testing.assert_array_equal(cloud.points, [[0, 0, 0.5, 7]])
    assert cloud.removed == 3


def test_intensity_that_is_no_number_is_zero_and_its_point_stays(make_cloud):
    cloud = read_cloud(make_cloud(np.array([[1, 2, 3, np.nan], [4, 5, 6, np.inf], [7, 8, 9, 10]])))
    np.testing.assert_array_equal(cloud.points, [[1, 2, 3, 0], [4, 5, 6, 0], [7, 8, 9, 10]])
    assert cloud.removed == 0


def test_another_field_is_read_as_intensity_with_its_scale(make_cloud):
    message = make_cloud(np.array([[1, 2, 3, 9, 0.5]]), names=("x", "y", "z", "intensity", "reflectivity"))
    np.testing.assert_array_equal(read_cloud(message, "reflectivity", 100.0).points, [[1, 2, 3, 50]])
    assert not read_cloud(message, "ambient").has_intensity


@pytest.mark.parametrize("row_step", [6 * 5 * 16, 0, 5], ids=["whole cloud", "zero", "width"])
def test_a_row_step_that_drivers_get_wrong_is_read_where_the_data_have_the_right_length(make_cloud, row_step):
    points = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    message = make_cloud(points, rows=6)
    assert not read_cloud(message).layout_warning
    message.row_step = row_step
    cloud = read_cloud(message)
    np.testing.assert_array_equal(cloud.points, points)
    assert cloud.layout_warning.startswith("the cloud's row_step is wrong")


@pytest.mark.parametrize("offset", [13, 2**31 - 1, 2**31, 2**32 - 1])
def test_a_field_beyond_its_point_is_refused_before_anything_is_read(make_cloud, offset):
    message = make_cloud(np.ones((10, 4)))
    message.fields[3].offset = offset
    with pytest.raises(CloudError, match=f"beyond its point_step.*intensity ends at {offset + 4}"):
        read_cloud(message)


def test_a_cloud_without_points_is_no_error(make_cloud):
    assert read_cloud(make_cloud(np.empty((0, 4)))).points.shape == (0, 4)
    assert read_cloud(message_of(b"", [field(name, 0, 7) for name in "xyz"])).points.shape == (0, 4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data": array("B", bytes(100))}, "less data than it declares"),
        ({"point_step": 8}, "beyond its point_step"),
        ({"fields": []}, "no field x, y, z"),
        ({"height": 2, "width": 4, "row_step": 10}, "longer than its row_step"),
        ({"fields": [field("x", 0, 42), field("y", 4, 7), field("z", 8, 7)]}, "field x has no known datatype"),
        ({"height": 2**31, "width": 2**31, "row_step": 2**32 - 1}, "longer than its row_step"),
    ],
)
def test_a_cloud_that_contradicts_itself_is_refused_with_the_reason(make_cloud, change, reason):
    message = make_cloud(np.ones((10, 4)))
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(CloudError, match=reason):
        read_cloud(message)


def test_it_reads_what_sensor_msgs_py_reads(make_cloud):
    reference = pytest.importorskip("sensor_msgs_py.point_cloud2", reason="sensor_msgs_py is not on PyPI")
    points = np.random.default_rng(0).normal(size=(60, 4))
    for form in ({"kind": "<f4"}, {"kind": "<f8", "offset": 4}, {"kind": ">f4"}, {"rows": 6}):
        message = make_cloud(points, **form)
        expected = reference.read_points(message, ("x", "y", "z", "intensity"))
        expected = np.stack([np.ravel(expected[name]) for name in ("x", "y", "z", "intensity")], axis=1)
        np.testing.assert_array_equal(read_cloud(message).points, expected.astype(np.float32))


def test_named_fields_are_read_of_every_point_in_their_order():
    data = struct.pack(">fdBfdB", 1.5, -2.0, 7, np.nan, 4.0, 9)
    fields = [field("vy", 0, 7), field("vx", 4, 8), field("ring", 12, 2)]
    message = message_of(data, fields, height=1, width=2, point_step=13, row_step=26, is_bigendian=True)
    np.testing.assert_array_equal(read_fields(message, ("vx", "vy")), np.float32([[-2.0, 1.5], [4.0, np.nan]]))
    assert read_fields(message_of(b"", fields), ("vx", "vy")).shape == (0, 2)
    with pytest.raises(CloudError, match="no field vz"):
        read_fields(message, ("vx", "vz"))
