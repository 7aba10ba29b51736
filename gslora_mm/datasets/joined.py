from collections.abc import Sequence

import numpy as np
from mmengine.dataset import BaseDataset

from gslora_mm.registry import DATASETS
from gslora_mm.utils.errors import ConfigError, config_path
from .build import build_dataset


@DATASETS.register_module()
class JoinedDataset(BaseDataset):
    """Data sets one after another, as one whose annotations can be asked.

    What MMEngine's ``ConcatDataset`` gives to a model; but a wrapper of data
    sets cannot be split by class.

    Args:
        datasets (Sequence[dict]): Configs of the data sets, each with a
            pipeline of its own.
        pipeline (list, optional): One pipeline for all in place of theirs.
            Defaults to None.
        share (float, optional): Share of all images to use, in (0, 1]. Which
            these are depends on how many there are, and on nothing else.
            Defaults to None: all of them.

    Attributes:
        parts (list[BaseDataset]): The data sets.

    Raises:
        ConfigError: If one cannot be built, or has other classes, or the
            share is out of range.
    """

    def __init__(
        self,
        datasets: Sequence[dict],
        pipeline: list | None = None,
        share: float | None = None,
    ) -> None:
        if share is not None and not 0 < share <= 1:
            raise ConfigError('share', share, 'must be in (0, 1]')
        self.share = share
        own = {} if pipeline is None else dict(pipeline=pipeline)
        self.parts: list[BaseDataset] = []
        for number, config in enumerate(datasets):
            with config_path(f'datasets[{number}]'):
                self.parts.append(build_dataset({**config, **own}))
        first = self.parts[0]
        for number, part in enumerate(self.parts):
            classes = part.metainfo.get('classes')
            if classes != first.metainfo.get('classes'):
                raise ConfigError(
                    f'datasets[{number}].metainfo.classes',
                    classes,
                    'the classes of datasets[0] are others, or in another '
                    f'order: {first.metainfo.get("classes")}; labels are '
                    'positions in this list, so it must be the same',
                )
        super().__init__(
            metainfo=first.metainfo,
            serialize_data=False,
            test_mode=first.test_mode,
            max_refetch=first.max_refetch,
        )
        self.pipeline = self._through_own_pipeline

    def load_data_list(self) -> list[tuple[int, int]]:
        """Which part and which image of it, for all images."""
        found = [
            (number, index)
            for number, part in enumerate(self.parts)
            for index in range(len(part))
        ]
        if self.share is None:
            return found
        count = max(1, round(self.share * len(found)))
        rng = np.random.RandomState(0)
        chosen = np.sort(rng.choice(len(found), count, replace=False))
        return [found[index] for index in chosen]

    def get_data_info(self, idx: int) -> dict:
        """Read an annotation of one of the parts, a copy."""
        number, index = self.data_list[idx]
        info = self.parts[number].get_data_info(index)
        info['sample_idx'] = idx % len(self)
        return info

    def _through_own_pipeline(self, info: dict) -> dict | None:
        number, _ = self.data_list[info['sample_idx']]
        return self.parts[number].pipeline(info)
