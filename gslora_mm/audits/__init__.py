"""Attacks that show what an erasure leaves behind."""

from .base import BaseAttack
from .collateral import Collateral
from .evidence import Evidence, LabelledImages, Suspect
from .head_transplant import HeadTransplant
from .linear_probe import LinearProbeAttack
from .localisation import Localisation
from .membership import Membership
from .outcome import Outcome
from .prototype import PrototypeAttack
from .redirection import Redirection
from .relearning import Relearning
from .retain_tuning import RetainTuning
from .rounding import Rounding
from .run import Audit, known_attacks
from .similarity import Similarity
from .verification import Verification

__all__ = [
    'Audit',
    'BaseAttack',
    'Collateral',
    'Evidence',
    'HeadTransplant',
    'LabelledImages',
    'LinearProbeAttack',
    'Localisation',
    'Membership',
    'Outcome',
    'PrototypeAttack',
    'Redirection',
    'Relearning',
    'RetainTuning',
    'Rounding',
    'Similarity',
    'Suspect',
    'Verification',
    'known_attacks',
]
