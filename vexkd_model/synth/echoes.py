"""LiDAR returns of the surfaces that rays meet: detection, noise, rain, own roof, rays without return."""

from dataclasses import dataclass

import numpy as np

from vexkd_model.synth.rig import TURN_ENDS_AT, RigLidar
from vexkd_model.synth.weather import Weather

MIN_RANGE_M = 1.0
RANGE_NOISE_M = 0.02
DROPPED = 0.02  # of all returns, at random
GLASS_PASSES = 0.55  # of the rays that meet a window
WEAKEST_ECHO = 1.5e-4  # intensity · cos(incidence) / range²: a return is detected above about this
INTENSITY_NOISE = 0.40  # standard deviation of the logarithm
# The own roof below the sensor [m]: how far it reaches ahead, back and to the sides, and how deep it lies. Measured
# on nuScenes' scene-0061, like the two numbers below.
ROOF_AHEAD_M, ROOF_BACK_M, ROOF_SIDE_M, ROOF_DROP_M = 0.8, 1.2, 0.6, 0.42
ROOF_INTENSITY = 16.0
SILENT_TYPICAL = 0.85  # of the rays without return report their ring's usual intensity, the others up to the strongest
SILENT_INTENSITY = np.array(  # of 32 rings
    [9, 5, 4, 2, 1, 0, 1, 2, 1, 0, 2, 5, 4, 4, 3, 6, 16, 5, 3, 2, 8, 3, 1, 9, 3, 3, 3, 10, 3, 11, 9, 17], np.float32
)
SILENT_STRONGEST = 145.0
# In the heaviest rain: more returns are lost, light is lost on the way there and back, and drops return echoes.
RAIN_DROPPED, RAIN_LOSS_PER_M, DROP_ECHOES, DROP_RANGE_M = 0.07, 0.006, 0.006, (1.5, 12.0)
DROP_INTENSITY = 2.0
RAIN_DIMMED = 0.3  # share of the intensity that a wet sensor window takes


@dataclass(frozen=True)
class Surfaces:
    """Surfaces that R = beams · columns rays (ring × azimuth) meet first.

    depth: float32 (R,) [m], infinite for the sky. intensity: float32 (R,), 0 … 255 at perpendicular incidence.
    cosine: float32 (R,), of the angle of incidence. window: bool (R,), glass.
    """

    depth: np.ndarray
    intensity: np.ndarray
    cosine: np.ndarray
    window: np.ndarray


def returns(
    surfaces: Surfaces, weather: Weather, lidar: RigLidar, speed: float, rng: np.random.Generator
) -> np.ndarray:
    """Make points float32 (R, 5) in firing order: x, y, z [m] in the sensor frame, intensity, ring.

    Intensities are 0 … 255 in whole numbers, and then scaled to the sensor's greatest one.

    As in nuScenes' files, there is one point per ray, also for rays that meet the vehicle's own roof. A ray without a
    return is reported at range zero; motion compensation then moves that point back by the way that the vehicle
    (speed [m/s]) drove until the revolution was complete.
    """
    chances = rng.random((4, len(surfaces.depth)), dtype=np.float32)
    range_noise, intensity_noise = rng.standard_normal((2, len(surfaces.depth)), dtype=np.float32)
    distance, value = _echoes(surfaces, weather, lidar.max_range, chances[0], chances[1])
    distance, value = _add_rain(distance, value, surfaces.depth, weather, chances[2], chances[3])
    roof = _roof_range(lidar).reshape(-1)
    distance, value = np.where(np.isfinite(roof), roof, distance), np.where(np.isfinite(roof), ROOF_INTENSITY, value)
    silent = distance == 0
    distance = distance + ~silent * RANGE_NOISE_M * range_noise
    value = np.where(
        silent, _silent_value(lidar, chances[1], chances[3]), value * np.exp(INTENSITY_NOISE * intensity_noise)
    )
    distance, value, silent = (a.reshape(lidar.grid) for a in (distance, value, silent))
    return _in_firing_order(lidar, distance, value, silent, speed)


def _echoes(
    surfaces: Surfaces, weather: Weather, max_range: float, chance: np.ndarray, threshold: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute range [m], zero without a return, and intensity (R,). chance, threshold: (R,) in [0, 1)."""
    depth, intensity, cosine = surfaces.depth, surfaces.intensity, surfaces.cosine
    echo = intensity * cosine / np.maximum(depth, MIN_RANGE_M) ** 2
    echo *= np.exp(-2 * RAIN_LOSS_PER_M * weather.rain * np.minimum(depth, max_range))
    # Around the detection threshold the chance of a return falls smoothly from one to none.
    detected = (echo > WEAKEST_ECHO * np.exp(2.4 * (threshold - 0.5))) & (depth > MIN_RANGE_M) & (depth < max_range)
    detected &= chance > np.where(surfaces.window, GLASS_PASSES, DROPPED + RAIN_DROPPED * weather.rain)
    value = intensity * (0.55 + 0.45 * cosine) * (1 - RAIN_DIMMED * weather.rain)
    return np.where(detected, depth, 0.0), value


def _add_rain(
    distance: np.ndarray, value: np.ndarray, depth: np.ndarray, weather: Weather, chance: np.ndarray, place: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Let some rays end in a raindrop before they meet a surface."""
    drop_range = DROP_RANGE_M[0] + place * (DROP_RANGE_M[1] - DROP_RANGE_M[0])
    in_drop = (chance < DROP_ECHOES * weather.rain) & (drop_range < depth)
    return np.where(in_drop, drop_range, distance), np.where(in_drop, DROP_INTENSITY, value)


def _silent_value(lidar: RigLidar, chance: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Intensity (R,) of rays without a return: usually the typical one of their ring, sometimes a random one."""
    beams, columns = lidar.grid
    typical = SILENT_INTENSITY[np.linspace(0, len(SILENT_INTENSITY) - 1, beams).round().astype(int)]
    return np.where(chance > SILENT_TYPICAL, share * SILENT_STRONGEST, np.repeat(typical, columns))


def _roof_range(lidar: RigLidar) -> np.ndarray:
    """Range (beams, columns) at which a ray meets the own roof, infinite where it does not."""
    azimuth, elevation = lidar.azimuth, lidar.elevation
    with np.errstate(divide="ignore"):
        ahead = np.where(np.cos(azimuth) > 0, ROOF_AHEAD_M, ROOF_BACK_M) / np.abs(np.cos(azimuth))
        edge = np.minimum(ahead, ROOF_SIDE_M / np.abs(np.sin(azimuth)))
        flat = np.where(elevation < 0, ROOF_DROP_M / np.tan(-elevation), np.inf)[:, None]
    return np.where(flat < edge, flat / np.cos(elevation)[:, None], np.inf)


def _in_firing_order(
    lidar: RigLidar, distance: np.ndarray, value: np.ndarray, silent: np.ndarray, speed: float
) -> np.ndarray:
    """Convert range and intensity (beams, columns) to points (R, 5): azimuth by azimuth, clockwise, with all rings."""
    azimuth, elevation = lidar.azimuth, lidar.elevation[:, None]
    until_end = 1 - np.remainder(TURN_ENDS_AT - azimuth, 2 * np.pi) / (2 * np.pi)  # of a revolution
    moved = lidar.base_from_lidar[:3, :3].T @ [-speed * lidar.interval_us * 1e-6, 0.0, 0.0]
    flat = distance * np.cos(elevation)
    points = np.stack(
        [flat * np.cos(azimuth + lidar.ahead), flat * np.sin(azimuth + lidar.ahead), distance * np.sin(elevation)], -1
    )
    points += np.where(silent[..., None], until_end[:, None] * moved, 0.0)
    ring = np.broadcast_to(np.arange(len(elevation))[:, None], distance.shape)
    intensity = np.clip(np.round(value), 0, 255) * (lidar.intensity_max / 255)
    whole = np.concatenate([points, intensity[..., None], ring[..., None]], -1)
    return whole[:, np.argsort(-until_end)].transpose(1, 0, 2).reshape(-1, 5).astype(np.float32)
