"""The filter and smoother of one object, against least squares over all detections at once."""

import numpy as np

from vexkd_model.tracking.kalman import Motion, Noise, begin, predict, smooth, update

MOTION, NOISE = Motion(acceleration=1.2, turning=0.4, speed=5.0), Noise(0.3, 0.2, 0.15, 0.8)
TIMES = [0.0, 0.5, 0.9, 1.9, 2.4]


def boxes_of_a_drive(rng):
    """Noisy boxes (K, 9) of a car that drives 6 m/s along x at the heading 0."""
    boxes = np.tile([0.0, 2, 0.8, 4.5, 1.9, 1.6, 0, 6, 0], (len(TIMES), 1))
    boxes[:, 0] = 6 * np.array(TIMES)
    boxes[:, [0, 1]] += rng.normal(0, 0.3, (len(TIMES), 2))
    boxes[:, 6] += rng.normal(0, 0.1, len(TIMES))
    return boxes


def filtered(boxes):
    states = [begin(boxes[0], MOTION, NOISE)]
    for before, now, box in zip(TIMES, TIMES[1:], boxes[1:], strict=False):
        states.append(update(predict(states[-1], now - before, MOTION), box, NOISE))
    return states


def least_squares_along_x(boxes):
    """Most probable (x, vx) at all times: the weighted least-squares solution, written down as one linear system."""
    rows, wanted = [], []

    def add(equations, values, covariance):
        whitened = np.linalg.inv(np.linalg.cholesky(covariance))
        rows.extend(whitened @ equations)
        wanted.extend(whitened @ values)

    for k, box in enumerate(boxes):
        equations = np.zeros((2, 2 * len(boxes)))
        equations[0, 2 * k] = equations[1, 2 * k + 1] = 1
        add(equations, box[[0, 7]], np.diag([0.3**2, 0.8**2]))
    for k, dt in enumerate(np.diff(TIMES)):
        equations = np.zeros((2, 2 * len(boxes)))
        equations[:, 2 * k : 2 * k + 2] = -np.array([[1, dt], [0, 1]])
        equations[:, 2 * k + 2 : 2 * k + 4] = np.eye(2)
        add(equations, np.zeros(2), 1.2**2 * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]]))
    return np.linalg.lstsq(np.array(rows), np.array(wanted), rcond=None)[0].reshape(-1, 2)


def test_the_smoothed_path_is_the_most_probable_one_of_all_detections_together():
    boxes = boxes_of_a_drive(np.random.default_rng(1))
    smoothed = np.array([state.mean for state in smooth(filtered(boxes), TIMES, MOTION)])
    np.testing.assert_allclose(smoothed[:, [0, 4]], least_squares_along_x(boxes), atol=1e-4)


def test_a_detection_that_looks_backwards_does_not_turn_the_state():
    boxes = boxes_of_a_drive(np.random.default_rng(2))
    boxes[2, 6] += np.pi
    turned = [state.mean[3] for state in filtered(boxes)]
    boxes[2, 6] -= np.pi
    np.testing.assert_allclose(turned, [state.mean[3] for state in filtered(boxes)], atol=1e-9)


def test_a_velocity_that_is_not_measured_is_learnt_from_positions():
    boxes = boxes_of_a_drive(np.random.default_rng(3))
    boxes[:, 7:9] = np.nan
    state = filtered(boxes)[-1]
    np.testing.assert_allclose(state.mean[[4, 5]], [6, 0], atol=1.5)
    assert np.isfinite(state.covariance).all()
