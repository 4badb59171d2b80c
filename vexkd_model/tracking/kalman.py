"""Kalman filter of one object's box, and the Rauch-Tung-Striebel smoother over its past.

A box (9,) is in the order of `types.BOX_FIELDS`, in a frame fixed to the world. The filter is linear: at constant
velocity and constant turn rate, which are independent, so that a wrong heading never bends a path. Ours: filterpy had
its last release in 2018, and headings that jump by half a turn and velocities that are not always known would be most
of the code around it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from vexkd_model.geometry.boxes import wrap_angle

X, Y, Z, YAW, VX, VY, TURN = range(7)
MEASURED = [X, Y, Z, YAW, VX, VY]
BOX_COLUMNS = [0, 1, 2, 6, 7, 8]  # of the same in a box
SAME_ERROR_S = 0.5  # errors of velocities last about as long as the sweeps that a student sums up
LEAST_VARIANCE = 1e-6  # keeps covariances invertible where nothing moves


@dataclass(frozen=True)
class Motion:
    """Motion of the objects of a class: standard deviations.

    acceleration [m/s²]. turning [rad/s²]. heave: of the height, in one second [m]. speed, turn: of an object that is
    seen for the first time, if its velocity is not measured [m/s], and of its turn rate [rad/s].
    """

    acceleration: float
    turning: float
    speed: float
    turn: float = 0.3
    heave: float = 0.1


@dataclass(frozen=True)
class Noise:
    """Standard deviations of a detection: position [m], height [m], yaw [rad], velocity [m/s]."""

    position: float
    height: float
    yaw: float
    velocity: float

    def after(self, seconds: float) -> "Noise":
        """Return the noise of a detection that comes so long after the one before.

        A Kalman filter takes errors of measurements as independent. Detections of 0.5 s hold one measurement of
        velocity together, in however many parts they come; twenty a second, taken as independent, bend paths.
        """
        return replace(self, velocity=self.velocity * max(1.0, SAME_ERROR_S / seconds) ** 0.5)

    def variances(self) -> np.ndarray:
        """Variances (6,) in the order of MEASURED."""
        return np.square([self.position, self.position, self.height, self.yaw, self.velocity, self.velocity])


class State(NamedTuple):
    """Gaussian over (x, y, z, yaw, vx, vy, turn rate): mean (7,), covariance (7, 7)."""

    mean: np.ndarray
    covariance: np.ndarray


def begin(box: np.ndarray, motion: Motion, noise: Noise) -> State:
    """State after the first detection of an object."""
    mean, variance = np.zeros(7), np.zeros(7)
    mean[MEASURED], variance[MEASURED] = box[BOX_COLUMNS], noise.variances()
    unknown = ~np.isfinite(mean)
    mean[unknown], variance[unknown] = 0.0, motion.speed**2
    variance[TURN] = motion.turn**2
    if not motion.speed:
        mean[[VX, VY]] = variance[[VX, VY, TURN]] = 0.0
    return State(mean, np.diag(variance + LEAST_VARIANCE))


def predict(state: State, seconds: float, motion: Motion) -> State:
    """State `seconds` later, at constant velocity and turn rate."""
    means, covariances = predict_all([state], [seconds], [motion])
    return State(means[0], covariances[0])


def predict_all(states: Sequence[State], seconds: Sequence[float], motions: Sequence[Motion]) -> State:
    """Predict T states, each by its own time (T,) and motion, as one State of means (T, 7), covariances (T, 7, 7)."""
    means = np.reshape([state.mean for state in states], (-1, 7))
    covariances = np.reshape([state.covariance for state in states], (-1, 7, 7))
    transitions = np.reshape([_transition(elapsed) for elapsed in seconds], (-1, 7, 7))
    noise = np.reshape([_process_noise(*pair) for pair in zip(seconds, motions, strict=True)], (-1, 7, 7))
    predicted = transitions @ covariances @ transitions.transpose(0, 2, 1) + noise
    return State((transitions @ means[..., None])[..., 0], predicted)


def update(state: State, box: np.ndarray, noise: Noise) -> State:
    """State after a detection at its own time.

    What is NaN was not measured. A heading nearer to the opposite of the state's is taken as seen the wrong way round.
    """
    innovation = box[BOX_COLUMNS] - state.mean[MEASURED]
    innovation[3] = wrap_angle(2 * innovation[3]) / 2
    known = np.isfinite(innovation)
    rows = np.array(MEASURED)[known]
    spread = state.covariance[np.ix_(rows, rows)] + np.diag(noise.variances()[known])
    gain = np.linalg.solve(spread, state.covariance[rows]).T
    mean = state.mean + gain @ innovation[known]
    covariance = state.covariance - gain @ state.covariance[rows]
    return State(mean, (covariance + covariance.T) / 2)


def smooth(filtered: Sequence[State], seconds: Sequence[float], motion: Motion) -> list[State]:
    """States that know the future, too, of filtered ones at the times `seconds`, in the same order.

    Source: Rauch, Tung & Striebel, "Maximum likelihood estimates of linear dynamic systems" (1965).
    """
    states = [filtered[-1]]
    for i in range(len(filtered) - 2, -1, -1):
        elapsed = seconds[i + 1] - seconds[i]
        predicted, now, later = predict(filtered[i], elapsed, motion), filtered[i], states[-1]
        gain = np.linalg.solve(predicted.covariance, _transition(elapsed) @ now.covariance).T
        mean = now.mean + gain @ (later.mean - predicted.mean)
        covariance = now.covariance + gain @ (later.covariance - predicted.covariance) @ gain.T
        states.append(State(mean, covariance))
    return states[::-1]


def _transition(seconds: float) -> np.ndarray:
    matrix = np.eye(7)
    matrix[[X, Y, YAW], [VX, VY, TURN]] = seconds
    return matrix


def _process_noise(seconds: float, motion: Motion) -> np.ndarray:
    """Covariance of white acceleration over `seconds`, and of a height that drifts."""
    noise = np.zeros((7, 7))
    for place, rate, size in ((X, VX, motion.acceleration), (Y, VY, motion.acceleration), (YAW, TURN, motion.turning)):
        noise[place, place] = size**2 * seconds**3 / 3
        noise[place, rate] = noise[rate, place] = size**2 * seconds**2 / 2
        noise[rate, rate] = size**2 * seconds
    noise[Z, Z] = motion.heave**2 * seconds
    return noise
