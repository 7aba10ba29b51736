"""A sequence of requests: its plan, its steps, the walk through them."""

from .dry_run import check_sequence
from .plan import ForgettingPlan
from .request import write_request
from .run import ForgettingSequence
from .step import run_step

__all__ = [
    'ForgettingPlan',
    'ForgettingSequence',
    'check_sequence',
    'run_step',
    'write_request',
]
