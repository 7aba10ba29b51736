"""Linear probe: what a new classifier finds in features that stay frozen.

A model may fail on a class because its features lost it, or only because
its last layer no longer reads them. A softmax regression trained anew on
the frozen features tells the two apart, as in the papers (GS-LoRA++, arXiv
2501.09705).
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gslora_mm.utils import ConfigError

#: Weights of the l2 penalty to choose from, beside the mean loss of a row.
PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


class LinearProbe:
    r"""Softmax regression on standardised features.

    .. math::
        \frac{1}{N} \sum_i CE(W^T x_i + b, y_i)
        + \frac{\lambda}{2} \Vert W \Vert_2^2

    It is convex, and solved with L-BFGS in float64. The penalty is chosen
    on rows held out of the *training* features, a share of every class; of
    equally good ones the strongest wins. Then all rows are fitted. The same
    rows and seed give the same probe.

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
    """

    def __init__(
        self,
        penalties: Sequence[float] = PENALTIES,
        holdout: float = 0.2,
        max_iter: int = 200,
        seed: int = 0,
    ) -> None:
        self.penalties = sorted(penalties, reverse=True)
        self.holdout = holdout
        self.max_iter = max_iter
        self.seed = seed

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
        self._classes, labels = labels.unique(return_inverse=True)
        if len(self._classes) < 2:
            raise ConfigError(
                f'linear probe: {len(labels)} rows of '
                f'{len(self._classes)} classes; it needs at least two '
                'classes to tell apart'
            )
        features = _checked(features)
        self._mean = features.mean(0)
        scale = features.std(0, correction=0)
        # A feature that never changes says nothing, and stays at 0.
        self._scale = scale.where(scale > 0, 1)
        features = (features - self._mean) / self._scale
        self.penalty, self.holdout_accuracy = self._choose(features, labels)
        self._weights = self._solve(features, labels, self.penalty)
        return self

    def predict(self, features: Tensor) -> Tensor:
        """Class ids of rows.

        Args:
            features (Tensor): Shape (N, C).

        Returns:
            Tensor: Shape (N, ).
        """
        features = (_checked(features) - self._mean) / self._scale
        return self._classes[_scores(features, self._weights).argmax(1)]

    def _choose(
        self, features: Tensor, labels: Tensor
    ) -> tuple[float, float | None]:
        """The best penalty, and its accuracy on held-out rows."""
        held_out = held_out_rows(labels, self.holdout, self.seed)
        if not held_out.any():
            return self.penalties[len(self.penalties) // 2], None
        best = (self.penalties[0], -1.0)
        # Each fit starts where that with the next stronger penalty ended.
        weights = None
        for penalty in self.penalties:
            weights = self._solve(
                features[~held_out], labels[~held_out], penalty, weights
            )
            found = _scores(features[held_out], weights).argmax(1)
            accuracy = (found == labels[held_out]).double().mean().item()
            if accuracy > best[1]:
                best = (penalty, accuracy)
        return best

    def _solve(
        self,
        features: Tensor,
        labels: Tensor,
        penalty: float,
        start: Tensor | None = None,
    ) -> Tensor:
        """Weights, shape (C + 1, classes); the last row is the bias."""
        shape = (features.shape[1] + 1, len(self._classes))
        weights = features.new_zeros(shape) if start is None else start.clone()
        weights.requires_grad_()
        optimizer = torch.optim.LBFGS(
            [weights],
            max_iter=self.max_iter,
            tolerance_grad=1e-6,
            line_search_fn='strong_wolfe',
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(_scores(features, weights), labels)
            loss = loss + penalty / 2 * weights[:-1].square().sum()
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(closure)
        return weights.detach()


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


def class_accuracies(
    labels: Tensor, predictions: Tensor, classes: Sequence[str]
) -> dict[str, float | None]:
    """Share of correct rows of each class.

    Args:
        labels (Tensor): True class ids, shape (N, ).
        predictions (Tensor): Class ids found, shape (N, ).
        classes (Sequence[str]): Names of the ids 0, 1, ...

    Returns:
        dict[str, float | None]: Fractions of 1 by class name; None for a
        class without rows.
    """
    each = {name: [name] for name in classes}
    return split_accuracies(labels, predictions, classes, each)


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


def _scores(features: Tensor, weights: Tensor) -> Tensor:
    return features @ weights[:-1] + weights[-1]


def _checked(features: Tensor) -> Tensor:
    finite = features.isfinite().all(1)
    if not finite.all():
        raise ConfigError(
            f'linear probe: {int((~finite).sum())} of {len(features)} '
            'feature rows are not finite; the checkpoint that they come '
            'from is damaged or has diverged'
        )
    return features.double()
