"""Scores of a forgetting step: those of its splits, H-Mean, its entry."""

from .face_verification import FaceVerification
from .forgetting_accuracy import ForgettingAccuracy
from .forgetting_coco_metric import ForgettingCocoMetric
from .h_mean import h_mean
from .step_result import split_scores, step_result
