"""Means of what layers give for the images of a class."""

import torch
from torch import Tensor

from gslora_mm.datasets import ForgetRetainDataset
from gslora_mm.tasks import TaskModel
from gslora_mm.tasks.half_batch import View
from .replay import read_replay
from .teacher import Teacher


class ClassMeans:
    """The mean of each class to forget, and of what is retained, by layer.

    Of the replay images as the step found the model, through the training
    pipeline; where no image is retained, of all images to forget in place of
    these.

    Args:
        model (TaskModel): At the start of a step, on its device.
        dataset (ForgetRetainDataset): The replay images of the step.
        teacher (Teacher): Whose layers are meant.
        passes (int): Times that each image is read, with other
            augmentations. Defaults to 4.
    """

    def __init__(
        self,
        model: TaskModel,
        dataset: ForgetRetainDataset,
        teacher: Teacher,
        passes: int = 4,
    ) -> None:
        self._model = model
        # On the device of the model; a row that no image has is 0.
        self._means: dict[str, dict[int, Tensor]] = {}
        counts: dict[int, int] = {}
        forgotten = set(dataset.datasets[0].labels.tolist())
        retained = -1 if len(dataset.datasets[1]) else None
        with torch.no_grad():
            for half in read_replay(model, dataset, 16, passes):
                layers = teacher.views(half).layers
                for row, label in enumerate(half.labels.tolist()):
                    places = [label] if label in forgotten else [retained]
                    if retained is None:
                        places.append(-1)
                    for place in places:
                        counts[place] = counts.get(place, 0) + 1
                        for depth, found in layers.items():
                            sums = self._means.setdefault(depth, {})
                            value = found[row].float()
                            sums[place] = sums.get(place, 0) + value
        for sums in self._means.values():
            for place in sums:
                sums[place] = sums[place] / counts[place]

    def removed(self, view: View, labels: Tensor, times: float) -> View:
        """A view with the mean of what is retained in place of the class's.

        Args:
            view (View): Of the teacher, of n images to forget.
            labels (Tensor): Their class ids, shape (n, ).
            times (float): How often the difference of the means is taken
                away.

        Returns:
            View: With the outputs that the embedding gives then.
        """
        layers = {}
        for depth, found in view.layers.items():
            means = self._means[depth]
            own = torch.stack([means[i] for i in labels.tolist()])
            layers[depth] = found - times * (own - means[-1]).to(found)
        with torch.no_grad():
            outputs = self._model.task.logits_of(
                self._model.model, layers['embedding']
            )
        return View(outputs, layers)
