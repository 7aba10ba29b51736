"""Face verification of each split, in the same pass as the accuracy."""

import os
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import MMLogger

from gslora_mm.registry import METRICS
from gslora_mm.utils import ConfigError, unknown_name
from .splits import SplitMetric, read_splits

KEY = 'val_evaluator.pairs'


class Pair(NamedTuple):
    """Two images, as they are listed, and whether they show one identity."""

    first: str
    second: str
    same: bool


@METRICS.register_module()
class FaceVerification(SplitMetric):
    """Tell from embeddings whether two images show one identity.

    What a user of a face system looks at: identification names one of the
    known classes, verification compares two images, so that it may well go
    on working for an identity whose class has been forgotten.

    The similarity of two images is the cosine of their embeddings, which
    the head attaches to its predictions
    (:class:`~gslora_mm.models.heads.EmbeddingMixin`). A pair belongs to a
    split if both its identities do; pairs across splits count for all pairs
    only.

    Metrics (with the prefix ``face/``), over all pairs and, as
    ``{split}/...``, over those of each split: ``verification_accuracy``
    (threshold chosen on other pairs), ``verification_auc`` and
    ``tar@far=0.001``, ... Fractions of 1, NaN where a split has no pairs of
    both kinds, or fewer pairs of two identities than can resolve the rate.

    Args:
        pairs (str | Sequence): File with one pair a line: two paths and 1
            (one identity) or 0, apart by white space; or such triples.
            Paths are relative to the data prefix of the validation set, or
            any longer part of its paths.
        splits (Mapping, optional): Class names by split name. Defaults to
            None.
        far (Sequence[float]): False accept rates. Defaults to (1e-3, 1e-2).
        folds (int): Parts for the choice of the threshold. Defaults to 10.
        **kwargs: Arguments of MMEngine's ``BaseMetric``.

    Raises:
        ConfigError: If an argument or the list is malformed. Later, if a
            split names an unknown class, or if an image of the list is none
            of the validation set or has another identity than the list
            says; see :meth:`check_dataset`.
    """

    default_prefix = 'face'

    def __init__(
        self,
        pairs: str | os.PathLike | Sequence,
        splits: Mapping[str, Sequence[str]] | None = None,
        far: Sequence[float] = (1e-3, 1e-2),
        folds: int = 10,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if (
            isinstance(far, str)
            or not isinstance(far, Sequence)
            or not all(
                isinstance(rate, int | float) and 0 <= rate < 1 for rate in far
            )
        ):
            raise ConfigError(
                'val_evaluator.far',
                far,
                'must be a list of rates in [0, 1), such as (1e-3, 1e-2)',
            )
        if not isinstance(folds, int) or folds < 2:
            raise ConfigError(
                'val_evaluator.folds', folds, 'must be an int of at least 2'
            )
        self.far = tuple(far)
        self.folds = folds
        self.pairs = (
            read_pairs(pairs)
            if isinstance(pairs, str | os.PathLike)
            else [_pair(pair, f'{KEY}[{i}]') for i, pair in enumerate(pairs)]
        )
        if not self.pairs:
            raise ConfigError(KEY, valid='the list is empty')
        self.splits = read_splits(splits or {})
        self._listed = {
            name for pair in self.pairs for name in (pair.first, pair.second)
        }

    def check_dataset(self, dataset: BaseDataset) -> None:
        """Compare the list of pairs with the images there are.

        Reads annotations, no images. Called before anything is trained.

        Args:
            dataset (BaseDataset): The validation set.

        Raises:
            ConfigError: If an image of the list is none of the data set,
                or more than one, or a pair is said to be of one identity
                and is not, or the reverse.
        """
        infos = map(dataset.get_data_info, range(len(dataset)))
        found = [(info['img_path'], int(info['gt_label'])) for info in infos]
        self._identities(found, dataset.metainfo.get('classes') or ())

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the embeddings of the images that are listed.

        Args:
            data_batch (dict): Not used.
            data_samples (Sequence[dict]): Predictions, with ``img_path``,
                ``gt_label`` and ``embedding``.
        """
        for sample in data_samples:
            if not self._names_of(sample['img_path']):
                # The processes' results are put together one by one.
                self.results.append(None)
                continue
            if 'embedding' not in sample:
                raise ConfigError(
                    'val_evaluator',
                    valid='FaceVerification needs embeddings, which the head '
                    'does not give; model.head.type may be '
                    "'gslora_mm.CosFaceClsHead' or "
                    "'gslora_mm.ArcFaceEmbeddingHead'",
                )
            embedding = sample['embedding'].detach().cpu().double().numpy()
            self.results.append(
                (sample['img_path'], int(sample['gt_label']), embedding)
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute all figures from the collected embeddings.

        Args:
            results (list): Of all images, as :meth:`process` keeps them.

        Returns:
            dict: Metric values by name (see the class).
        """
        # scikit-learn takes a second to import.
        from .verification_scores import verification_scores

        results = [result for result in results if result is not None]
        classes = (self.dataset_meta or {}).get('classes') or ()
        identities = self._identities(
            [(path, label) for path, label, _ in results], classes
        )
        embeddings = {
            name: embedding / max(np.linalg.norm(embedding), 1e-12)
            for path, _, embedding in results
            for name in self._names_of(path)
        }
        firsts, seconds, same = zip(*self.pairs, strict=True)
        scores = np.array(
            [
                embeddings[first] @ embeddings[second]
                for first, second in zip(firsts, seconds, strict=True)
            ]
        )
        same = np.array(same)
        labels = np.array(
            [[identities[name] for name in side] for side in (firsts, seconds)]
        )
        metrics = verification_scores(scores, same, self.far, self.folds)
        label_of = {name: label for label, name in enumerate(classes)}
        for split, names in self.splits.items():
            members = [label_of[name] for name in names]
            own = np.isin(labels, members).all(axis=0)
            figures = verification_scores(
                scores[own], same[own], self.far, self.folds
            )
            metrics.update(
                {f'{split}/{key}': value for key, value in figures.items()}
            )
        MMLogger.get_current_instance().info(
            f'verification of {len(self.pairs)} pairs: '
            + ', '.join(f'{k} {v:.4f}' for k, v in metrics.items())
        )
        return metrics

    def _names_of(self, path: str) -> list[str]:
        """How an image is listed: its path, or the end of it."""
        parts = _normal(path).split('/')
        ends = ('/'.join(parts[start:]) for start in range(len(parts)))
        return [name for name in ends if name in self._listed]

    def _identities(
        self,
        found: Sequence[tuple[str, int]],
        classes: Sequence[str],
    ) -> dict[str, int]:
        """Labels of the listed images, once all is well with the list.

        Args:
            found (Sequence[tuple[str, int]]): Path and label of images.
            classes (Sequence[str]): Names of the labels.
        """
        paths: dict[str, str] = {}
        labels: dict[str, int] = {}
        for path, label in found:
            for name in self._names_of(path):
                if paths.setdefault(name, path) != path:
                    raise ConfigError(
                        KEY,
                        valid=f'{name!r} may be {paths[name]!r} or {path!r}; '
                        'write more of its path',
                    )
                labels[name] = label
        for number, pair in enumerate(self.pairs, 1):
            where = f'{KEY}, pair {number}'
            for name in (pair.first, pair.second):
                if name in labels:
                    continue
                identity = posixpath.basename(posixpath.dirname(name))
                if identity and classes and identity not in classes:
                    raise unknown_name(where, identity, classes)
                raise ConfigError(
                    where,
                    valid=f'{name!r} is no image of the validation set; '
                    'paths are relative to its data prefix',
                )
            if pair.same != (labels[pair.first] == labels[pair.second]):
                raise ConfigError(
                    where,
                    valid=f'{pair.first!r} and {pair.second!r} are said to '
                    f'show {"one identity" if pair.same else "two"}, but the '
                    'validation set says otherwise',
                )
        return labels


def read_pairs(path: str | os.PathLike) -> list[Pair]:
    """Read a list of pairs.

    Args:
        path (str | os.PathLike): Text file, a pair a line: two paths and 1
            or 0. Empty lines and those that begin with # are skipped.

    Raises:
        ConfigError: If there is no such file or a line is malformed.
    """
    try:
        lines = Path(path).read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            KEY,
            str(path),
            f'cannot be read ({error}); must be a text file with two paths '
            'and 1 or 0 a line',
        ) from error
    return [
        _pair(line.split(), f'{KEY} = {str(path)!r}, line {number}')
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.startswith('#')
    ]


def _pair(fields: Sequence, where: str) -> Pair:
    if len(fields) != 3 or str(fields[2]) not in ('0', '1', 'True', 'False'):
        raise ConfigError(
            where,
            valid=f'{" ".join(map(str, fields))!r}; must be two paths and 1 '
            '(one identity) or 0',
        )
    first, second, same = fields
    return Pair(_normal(first), _normal(second), str(same) in ('1', 'True'))


def _normal(path: str) -> str:
    return posixpath.normpath(str(path).replace(os.sep, '/'))
