"""Calibration of scores of one class: beta calibration, expected calibration error, threshold of best F1."""

import numpy as np
from scipy.optimize import minimize

from vexkd_model.deploy.reliability import LEAST_SCORE

BINS = 10  # of equal width, of the expected calibration error
LEAST_SLOPE, MOST_SLOPE = 0.01, 50.0  # above zero, so that no two scores become one


def fit_score_map(scores: np.ndarray, hits: np.ndarray) -> tuple[float, float, float]:
    """Fit a, b, c of `map_scores` by maximum likelihood; hits: bool (M,), whether each detection is right.

    Targets are Platt's, a little inside 0 and 1: of separable scores, the likelihood has no maximum.
    """
    right = int(hits.sum())
    target = np.where(hits, (right + 1) / (right + 2), 1 / (len(hits) - right + 2))
    clipped = np.clip(scores.astype(np.float64), LEAST_SCORE, 1 - LEAST_SCORE)
    features = np.stack([np.log(clipped), -np.log1p(-clipped), np.ones(len(clipped))], axis=1)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        logit = features @ parameters
        gradient = features.T @ (1 / (1 + np.exp(-logit)) - target) / len(target)
        return float(np.mean(np.logaddexp(0, logit) - target * logit)), gradient

    slope = (LEAST_SLOPE, MOST_SLOPE)
    a, b, c = minimize(loss, [1.0, 1.0, 0.0], jac=True, method="L-BFGS-B", bounds=[slope, slope, (None, None)]).x
    return float(f"{a:.5g}"), float(f"{b:.5g}"), float(f"{c:.5g}")


def expected_calibration_error(scores: np.ndarray, hits: np.ndarray) -> float:
    """Mean distance of score and share of hits in bins of the score, weighted by their detections.

    Source: Guo et al., ICML 2017.
    """
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    off = np.bincount(bins, scores.astype(np.float64), BINS) - np.bincount(bins, hits, BINS)
    return float(np.abs(off).sum() / max(len(scores), 1))


def best_f1_threshold(scores: np.ndarray, hits: np.ndarray, annotations: int) -> float:
    """Choose the threshold of best F1 = 2 TP / (detections + annotations), halfway between two scores."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    f1 = 2 * np.cumsum(hits[order]) / (np.arange(1, len(ranked) + 1) + annotations)
    below = np.append(ranked[1:], 0.0)
    f1[ranked == below] = -1  # a threshold cannot part equal scores
    best = int(f1.argmax())
    return float((ranked[best] + below[best]) / 2)
