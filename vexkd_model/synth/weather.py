"""Weather and light of one scene: the sun, the sky, the lamps and the rain."""

from dataclasses import dataclass

import numpy as np

DAY, OVERCAST, DUSK, NIGHT = "day", "overcast", "dusk", "night"
# nuScenes: 12 % of the scenes at night, 20 % in rain. Nights are a little more frequent here, so that small splits
# hold some.
LIGHTS = {DAY: 0.42, OVERCAST: 0.26, DUSK: 0.14, NIGHT: 0.18}
RAINS = {DAY: 0.0, OVERCAST: 0.5, DUSK: 0.2, NIGHT: 0.2}


@dataclass(frozen=True)
class Weather:
    """Light and rain of a scene.

    light: DAY, OVERCAST, DUSK or NIGHT. rain: 0 dry … 1 downpour.
    sun: unit vector towards the sun. direct, ambient: strengths of its light and of the sky's, 1 = a white surface
    is white. tint: RGB of the sun's light. sky, horizon: RGB overhead and far away. lamps: strength of street lamps,
    headlights and lit windows. gain: exposure. noise: standard deviation of a pixel, of 255. haze_m: distance at
    which 1 − 1/e of a colour has become horizon.
    """

    light: str
    rain: float
    sun: tuple[float, float, float]
    direct: float
    ambient: float
    tint: tuple[float, float, float]
    sky: tuple[float, float, float]
    horizon: tuple[float, float, float]
    lamps: float
    gain: float
    noise: float
    haze_m: float

    @property
    def words(self) -> str:
        """Words for the scene's description, nuScenes' own ones for night and rain."""
        return f"{self.light}, rain" if self.rain else self.light


def draw_weather(rng: np.random.Generator) -> Weather:
    """Draw the weather of one scene."""
    light = str(rng.choice(list(LIGHTS), p=list(LIGHTS.values())))
    rain = float(rng.uniform(0.35, 1.0)) if rng.random() < RAINS[light] else 0.0
    return make_weather(light, rain, rng)


def make_weather(light: str, rain: float, rng: np.random.Generator) -> Weather:
    """Make a given kind of weather; position and brightness of the sun are drawn."""
    low, high = {DAY: (0.45, 1.2), OVERCAST: (0.45, 1.2), DUSK: (0.10, 0.22), NIGHT: (0.5, 0.8)}[light]
    azimuth, elevation = rng.uniform(-np.pi, np.pi), rng.uniform(low, high)
    sun = (np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation))
    direct, ambient, lamps, noise = {
        DAY: (rng.uniform(0.40, 0.70), rng.uniform(0.48, 0.60), 0.0, 2.5),
        OVERCAST: (rng.uniform(0.02, 0.12), rng.uniform(0.72, 0.88), 0.0, 2.5),
        DUSK: (rng.uniform(0.10, 0.45), rng.uniform(0.22, 0.38), 0.5, 4.0),
        NIGHT: (0.0, rng.uniform(0.008, 0.03), 1.0, 5.0),
    }[light]
    sky, horizon = {
        DAY: ((0.45, 0.63, 0.86), (0.90, 0.90, 0.90)),
        OVERCAST: ((0.72, 0.75, 0.78), (0.88, 0.88, 0.88)),
        DUSK: ((0.20, 0.24, 0.38), (0.62, 0.46, 0.38)),
        NIGHT: ((0.010, 0.012, 0.020), (0.05, 0.045, 0.04)),
    }[light]
    if rain:  # the sun is gone, and the sky is a grey of the same brightness
        direct, ambient = 0.15 * direct * (1 - rain), ambient * (1.0 - 0.25 * rain)
        sky, horizon = _grey(sky, rain), _grey(horizon, rain)
    return Weather(
        light=light,
        rain=rain,
        sun=(float(sun[0]), float(sun[1]), float(sun[2])),
        direct=float(direct),
        ambient=float(ambient),
        tint=(1.0, 0.72, 0.48) if light == DUSK else (1.0, 0.98, 0.94),
        sky=sky,
        horizon=horizon,
        lamps=lamps,
        gain=float(rng.uniform(0.85, 1.12)),
        noise=noise * (1 + 0.6 * rain),
        haze_m=240.0 - 150.0 * rain,
    )


def _grey(colour: tuple[float, float, float], rain: float) -> tuple[float, float, float]:
    """Grey of the same brightness as a colour, a little darker in rain."""
    grey = float(np.mean(colour)) * (1 - 0.15 * rain)
    return grey, grey, grey
