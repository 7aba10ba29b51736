import numpy as np
import torch.nn.functional as F

from gslora_mm.models.heads.embedding import EmbeddingMixin
from gslora_mm.registry import ATTACKS
from .base import BaseAttack
from .outcome import Outcome, resampled_auc, resampled_counts

#: More are drawn from.
MAX_PAIRS = 200_000


@ATTACKS.register_module()
class Verification(BaseAttack):
    """Whether two faces of a forgotten person still look alike.

    Cosines of embeddings of validation images of forgotten people: pairs of
    one person against pairs of two. An erasure has to leave no more than a
    model has for people whom it never saw; 1:1 verification needs no class
    row and is not touched by what is done to the head. People are drawn
    anew for the interval, with all pairs among them.
    """

    name = 'verification'
    metric = 'AUC'
    is_share = False
    resisting = (
        'It tells forgotten people apart no better than a model that never '
        'saw them.'
    )
    reads = ('validation',)

    def why_not(self, evidence):
        from mmpretrain.models import ArcFaceClsHead

        head = getattr(evidence.shell, 'head', None)
        if isinstance(head, EmbeddingMixin | ArcFaceClsHead):
            return None
        return 'the model is none for faces (CosFaceClsHead, ArcFaceClsHead)'

    def measure(self, evidence, suspect):
        rows = evidence.rows(suspect, 'validation')
        gone = np.array(list(evidence.gone.values()))
        index = np.flatnonzero(np.isin(rows.labels.numpy(), gone))
        faces = F.normalize(rows.embedding[index].double()).numpy()
        labels = rows.labels.numpy()[index]
        first, second = np.triu_indices(len(labels), 1)
        if len(first) > MAX_PAIRS:
            drawn = np.random.default_rng(0).choice(
                len(first), MAX_PAIRS, replace=False
            )
            # Pairs of one person are few, and all count.
            drawn = np.union1d(
                drawn, np.flatnonzero(labels[first] == labels[second])
            )
            first, second = first[drawn], second[drawn]
        cosines = (faces[first] * faces[second]).sum(1)
        same = labels[first] == labels[second]

        person = np.searchsorted(np.sort(gone), labels)
        # A pair of one person drawn twice counts twice, one of two people
        # as often as the two meet.
        counts = (
            drawn[person[first]] * np.where(same, 1, drawn[person[second]])
            for drawn in resampled_counts(len(gone))
        )
        per_class = {}
        for name, label in evidence.gone.items():
            own = (labels[first] == label) | (labels[second] == label)
            per_class[name] = resampled_auc(
                cosines[own], same[own], resampled_counts(int(own.sum()))
            )
        yield {}, Outcome(resampled_auc(cosines, same, counts), per_class)
