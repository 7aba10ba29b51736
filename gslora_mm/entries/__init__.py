"""The five entries of a sequence config, read and checked once.

``forgetting`` says what, ``method`` and ``adapter`` how, ``schedule`` how
long and how fast, ``task`` on what kind of model. None of them is a key of
mmdet or mmpretrain, so that they can stand beside any of their configs.
"""

from .entry import check_count
from .forgetting import ForgettingEntry
from .method import MethodEntry
from .own_training import own_epochs
from .schedule import ScheduleEntry
from .sequence import NAMES, SequenceEntries, build_all, read_entries

__all__ = [
    'NAMES',
    'ForgettingEntry',
    'MethodEntry',
    'ScheduleEntry',
    'SequenceEntries',
    'build_all',
    'check_count',
    'own_epochs',
    'read_entries',
]
