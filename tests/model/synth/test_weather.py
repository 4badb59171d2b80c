"""Effects of rain and darkness on the sensors, against the same scene on a dry day."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from vexkd_model.geometry.transforms import apply
from vexkd_model.synth.cameras import render
from vexkd_model.synth.ground import ASPHALT, PAINT_WHITE, PAINT_YELLOW
from vexkd_model.synth.lidar import scan
from vexkd_model.synth.lighting import LightSource
from vexkd_model.synth.raycast import BOX
from vexkd_model.synth.shapes import FACADE, Solids
from vexkd_model.synth.weather import DAY, DUSK, LIGHTS, NIGHT, OVERCAST, draw_weather, make_weather
from vexkd_model.synth.world import World, build_world, random_stream, world_from_ego

SEED, SCENE, TIME_S = 5, 2, 1.5
SIZE = (256, 144)
OWN_M = 2.0


@pytest.fixture(scope="module")
def scene() -> World:
    return build_world(SEED, SCENE, 4.0)


def _under(scene: World, light: str, rain: float = 0.0) -> World:
    return dataclasses.replace(scene, weather=make_weather(light, rain, np.random.default_rng(0)))


def _street(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Scan a street: points (N, 3) in the scene's frame beyond the own vehicle, and their intensities."""
    points = scan(world, TIME_S, random_stream(SEED, SCENE, 1, 0)).points
    points = points[np.linalg.norm(points[:, :3], axis=1) > OWN_M]
    placed = apply(world_from_ego(world.ego, TIME_S) @ world.rig.base_from_lidar, points[:, :3].astype(np.float64))
    return placed, points[:, 3]


def _image(world: World, camera: int = 0) -> np.ndarray:
    light = LightSource(world).at(TIME_S)
    return render(world, world.rig.cameras[camera], TIME_S, SIZE, light, np.random.default_rng(0)).astype(float)


def test_every_kind_of_weather_occurs_about_as_often_as_it_should():
    drawn = [draw_weather(np.random.default_rng(i)) for i in range(2000)]
    for light, share in LIGHTS.items():
        assert np.mean([weather.light == light for weather in drawn]) == pytest.approx(share, abs=0.03)
    assert np.mean([weather.rain > 0 for weather in drawn]) == pytest.approx(0.2, abs=0.03)  # nuScenes: 20 %
    assert not [weather for weather in drawn if weather.light == DAY and weather.rain]
    assert all(np.linalg.norm(weather.sun) == pytest.approx(1.0) for weather in drawn)


def test_rain_costs_lidar_returns_and_dims_those_that_are_left(scene):
    dry, wet = _street(_under(scene, OVERCAST)), _street(_under(scene, OVERCAST, 1.0))
    assert 0.75 < len(wet[0]) / len(dry[0]) < 0.95
    assert wet[1].mean() < 0.75 * dry[1].mean()


def test_drops_of_rain_answer_faintly_near_the_sensor_where_there_is_nothing_else(scene):
    (dry, _), (wet, intensity) = _street(_under(scene, OVERCAST)), _street(_under(scene, OVERCAST, 1.0))
    in_the_air = cKDTree(dry).query(wet)[0] > 0.5
    assert 80 < in_the_air.sum() < 0.006 * 34_688
    distance = np.linalg.norm(wet[in_the_air] - [*scene.ego.pose(TIME_S)[:2], 1.84], axis=1)
    assert np.percentile(distance, 95) < 13.5
    assert np.median(intensity[in_the_air]) < 4


def test_lidar_sees_paint_faintly_near_the_vehicle_and_not_at_all_far_away_or_in_heavy_rain(scene):
    def bonus(world: World, low: float, high: float) -> float:
        """Median intensity on paint less that on asphalt, between two distances [m]."""
        points, intensity = _street(world)
        column, row = np.clip(np.floor((points[:, :2].T + 155.0) / 0.1).astype(int), 0, 3099)
        kind = world.ground.kinds.numpy()[row, column]
        distance = np.hypot(*(points[:, :2] - world.ego.pose(TIME_S)[:2]).T)
        chosen = (np.abs(points[:, 2]) < 0.08) & (distance > low) & (distance < high)
        painted = (kind == PAINT_WHITE) | (kind == PAINT_YELLOW)
        assert (chosen & painted).sum() > 5
        return float(np.median(intensity[chosen & painted]) - np.median(intensity[chosen & (kind == ASPHALT)]))

    assert bonus(_under(scene, DAY), 2.5, 8.0) > 4
    assert abs(bonus(_under(scene, DAY), 25.0, 60.0)) < 2.5
    assert abs(bonus(_under(scene, OVERCAST, 1.0), 2.5, 8.0)) < 2.5


def test_lidar_is_the_same_by_day_and_by_night(scene):
    day, night = _street(_under(scene, DAY)), _street(_under(scene, NIGHT))
    assert np.array_equal(day[0], night[0])
    assert np.array_equal(day[1], night[1])


def test_the_later_the_darker(scene):
    means = [
        np.mean([_image(_under(scene, light), camera).mean() for camera in range(6)]) for light in (DAY, DUSK, NIGHT)
    ]
    assert means[0] > 1.5 * means[1] > 3 * means[2]


def test_at_night_a_camera_sees_what_the_headlights_reach_and_next_to_nothing_behind_the_vehicle(scene):
    dark = dataclasses.replace(_under(scene, NIGHT), lamps=scene.lamps[:0])
    ahead, behind = _image(dark, 0), _image(dark, 3)
    assert ahead[90:120, 100:156].mean() > 4 * behind[90:120, 100:156].mean()
    ground = behind[110:]
    assert np.percentile(ground, 90) < 25  # of 255, noise included


def test_a_street_lamp_lights_the_ground_below_it_and_not_the_ground_far_from_it(scene):
    world = _under(scene, NIGHT)
    light = LightSource(world).at(TIME_S)
    x, y, _ = max(world.lamps, key=lambda lamp: np.hypot(*(lamp[:2] - world.ego.pose(TIME_S)[:2])))
    below, away = (light.on_ground(_at(x + shift, y)).mean().item() for shift in (0.0, 25.0))
    assert below > 1.0
    alone = LightSource(dataclasses.replace(world, lamps=np.array([[x, y, 8.0]]))).at(TIME_S)
    assert alone.on_ground(_at(x + 25.0, y)).mean().item() < 0.1 * below
    assert away < below


def _at(x: float, y: float) -> torch.Tensor:
    return torch.tensor([[x, y, 0.0]], dtype=torch.float32)


def test_the_shadow_of_a_house_lies_away_from_the_sun_and_is_as_long_as_its_height_asks(scene):
    house = Solids(
        np.array([BOX]),
        np.array([FACADE]),
        np.array([[0.0, 0.0, 5.0]]),
        np.array([[1.0, 1.0, 5.0]]),
        np.zeros(1),
        np.full((1, 3), 0.5, np.float32),
    )
    world = dataclasses.replace(_under(scene, DAY), scenery=house, actors=scene.actors[:1])
    sun, light = np.array(world.weather.sun), LightSource(world).at(TIME_S)
    tip = -10.0 * sun[:2] / sun[2]
    away = tip / np.linalg.norm(tip)
    sunlit = world.weather.ambient + world.weather.direct * sun[2] * np.mean(world.weather.tint)
    for place, expected in ((0.9 * tip, world.weather.ambient), (tip + 2.0 * away, sunlit), (-2.0 * away, sunlit)):
        assert light.on_ground(_at(*place)).mean().item() == pytest.approx(expected, rel=1e-3)


def test_ground_under_a_car_is_darker_than_in_a_plain_shadow(scene):
    world = _under(scene, OVERCAST)
    light = LightSource(world).at(TIME_S)
    car = next(actor for actor in world.actors if actor.name == "car")
    x, y, _ = car.track.pose(TIME_S)
    assert light.on_ground(_at(x, y)).mean().item() < 0.5 * world.weather.ambient


def test_parked_vehicles_are_dark_at_night(scene):
    lit = scene.lights_on
    for i, actor in enumerate(scene.actors):
        assert lit[scene.owner == i].all() == (actor.attribute not in ("vehicle.parked", "cycle.without_rider"))


def test_weather_words_are_the_ones_that_nuscenes_users_filter_by():
    assert make_weather(NIGHT, 0.5, np.random.default_rng(0)).words == "night, rain"
    assert make_weather(DAY, 0.0, np.random.default_rng(0)).words == "day"
