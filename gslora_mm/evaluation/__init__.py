"""Scores of a forgetting step: AP per split, H-Mean, one step's entry."""

from .forgetting_coco_metric import ForgettingCocoMetric
from .h_mean import h_mean
from .step_result import split_scores, step_result

__all__ = ['ForgettingCocoMetric', 'h_mean', 'split_scores', 'step_result']
