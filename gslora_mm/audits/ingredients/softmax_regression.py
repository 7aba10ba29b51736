"""Linear probe: what a new classifier finds in features that stay frozen.

A model may fail on a class because its features lost it, or only because
its last layer no longer reads them. A softmax regression trained anew on
the frozen features tells the two apart, as in the papers (GS-LoRA++, arXiv
2501.09705).
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from gslora_mm.utils import ConfigError

#: Weights of the l2 penalty to choose from, beside the mean loss of a row.
PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


@dataclass(eq=False)
class LinearProbe:
    r"""Softmax regression on standardised features.

    .. math::
        \frac{1}{N} \sum_i CE(W^T x_i + b, y_i)
        + \frac{\lambda}{2} \Vert W \Vert_2^2

    It is convex, and solved by scikit-learn's ``LogisticRegression`` with
    L-BFGS in float64. The penalty is chosen on rows held out of the
    *training* features, a share of every class; of equally good ones the
    strongest wins. Then all rows are fitted. The same rows and seed give the
    same probe.

    Args:
        penalties (Sequence[float]): Values of :math:`\lambda` to choose
            from. Defaults to :data:`PENALTIES`.
        holdout (float): Share of the rows of a class that the choice is
            made on, in (0, 1); none of a class with a single row.
            Defaults to 0.2.
        max_iter (int): L-BFGS iterations of one fit. Defaults to 200.
        seed (int): Seed of the choice of held-out rows. Defaults to 0.

    Attributes:
        penalty (float): The one chosen.
        holdout_accuracy (float | None): Accuracy on the held-out rows that
            it was chosen for; None where no class had two rows.
        classifier (LogisticRegression): The classifier of standardised
            features.
    """

    penalties: Sequence[float] = PENALTIES
    holdout: float = 0.2
    max_iter: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        self.penalties = sorted(self.penalties, reverse=True)

    def fit(self, features: Tensor, labels: Tensor) -> 'LinearProbe':
        """Choose the penalty and train.

        Args:
            features (Tensor): Shape (N, C).
            labels (Tensor): Class ids, shape (N, ).

        Returns:
            LinearProbe: Itself.

        Raises:
            ConfigError: If there are fewer than two classes, or features
                are not finite.
        """
        classes = labels.unique()
        if len(classes) < 2:
            raise ConfigError(
                'linear probe',
                valid=f'{len(labels)} rows of {len(classes)} classes; it '
                'needs at least two classes to tell apart',
            )
        rows, ids = _finite(features), labels.cpu().numpy()
        # A feature that never changes says nothing, and stays at 0.
        self._scaler = StandardScaler()
        rows = self._scaler.fit_transform(rows)
        self.penalty, self.holdout_accuracy = self._choose_penalty(
            rows, ids, held_out_rows(labels, self.holdout, self.seed)
        )
        self.classifier = self._new_classifier()
        _fit(self.classifier, rows, ids, self.penalty)
        return self

    def predict(self, features: Tensor) -> Tensor:
        """Class ids of rows.

        Args:
            features (Tensor): Shape (N, C).

        Returns:
            Tensor: Shape (N, ), on the CPU.
        """
        rows = self._scaler.transform(_finite(features))
        return torch.from_numpy(self.classifier.predict(rows))

    def _choose_penalty(
        self, rows: np.ndarray, ids: np.ndarray, held_out: Tensor
    ) -> tuple[float, float | None]:
        """The best penalty, and its accuracy on held-out rows."""
        held_out = held_out.cpu().numpy()
        if not held_out.any():
            return self.penalties[len(self.penalties) // 2], None
        best = (self.penalties[0], -1.0)
        # Each fit starts where that with the next stronger penalty ended.
        classifier = self._new_classifier()
        for penalty in self.penalties:
            _fit(classifier, rows[~held_out], ids[~held_out], penalty)
            accuracy = classifier.score(rows[held_out], ids[held_out])
            if accuracy > best[1]:
                best = (penalty, float(accuracy))
        return best

    def _new_classifier(self) -> LogisticRegression:
        return LogisticRegression(
            tol=1e-6, max_iter=self.max_iter, warm_start=True
        )


def _fit(
    classifier: LogisticRegression,
    rows: np.ndarray,
    ids: np.ndarray,
    penalty: float,
) -> None:
    """Minimise the probe's loss from where the classifier stands.

    scikit-learn has C times the sum of all rows' losses and half the squared
    norm. Of two classes it keeps the difference of their weights only, w =
    w_1 - w_0, whose squared norm is twice that of the softmax's W = (-w / 2,
    w / 2).
    """
    factor = 2 if len(np.unique(ids)) == 2 else 1
    classifier.set_params(C=factor / (penalty * len(rows)))
    with warnings.catch_warnings():
        # Weak penalties may take more iterations than it has.
        warnings.simplefilter('ignore', ConvergenceWarning)
        classifier.fit(rows, ids)


def held_out_rows(labels: Tensor, share: float, seed: int = 0) -> Tensor:
    """Mark a share of the rows of every class, at random.

    Args:
        labels (Tensor): Class ids, shape (N, ).
        share (float): Share of the rows of a class; at least one row is
            marked and one is left, none of a class with a single row.
        seed (int): Seed of the draw. Defaults to 0.

    Returns:
        Tensor: Whether a row is held out, bool, shape (N, ).
    """
    generator = torch.Generator().manual_seed(seed)
    held_out = torch.zeros_like(labels, dtype=torch.bool)
    for label in labels.unique():
        rows = (labels == label).nonzero().squeeze(1)
        order = torch.randperm(len(rows), generator=generator)
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        held_out[rows[order[:count].to(rows.device)]] = True
    return held_out


def split_accuracies(
    labels: Tensor,
    predictions: Tensor,
    classes: Sequence[str],
    splits: Mapping[str, Sequence[str]],
) -> dict[str, float | None]:
    """Share of correct rows among those of each split's classes.

    Args:
        labels (Tensor): True class ids, shape (N, ).
        predictions (Tensor): Class ids found, shape (N, ).
        classes (Sequence[str]): Names of the ids 0, 1, ...
        splits (Mapping[str, Sequence[str]]): Class names by split.

    Returns:
        dict[str, float | None]: Fractions of 1 by split; None for a split
        without rows.
    """
    ids = {name: label for label, name in enumerate(classes)}
    correct = (labels == predictions).double()
    scores = {}
    for split, names in splits.items():
        wanted = torch.tensor([ids[name] for name in names], dtype=torch.long)
        rows = torch.isin(labels, wanted.to(labels.device))
        scores[split] = correct[rows].mean().item() if rows.any() else None
    return scores


def _finite(features: Tensor) -> np.ndarray:
    """Features in float64, all of them finite."""
    finite = features.isfinite().all(1)
    if not finite.all():
        raise ConfigError(
            'linear probe',
            valid=f'{int((~finite).sum())} of {len(features)} feature rows '
            'are not finite; the checkpoint that they come from is damaged '
            'or has diverged',
        )
    return features.cpu().double().numpy()
