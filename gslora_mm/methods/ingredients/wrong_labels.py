import torch
from torch import Tensor

from gslora_mm.datasets import ForgetRetainDataset
from gslora_mm.tasks import HalfBatch, TaskModel


class WrongLabels:
    r"""Forgetting by wrong labels, as in the papers' baselines.

    .. math::
        L_{forget} = L(x_f, \tilde y), \quad \tilde y \sim
        \mathrm{Uniform}(\text{retained classes})

    The forget images are learned as something else, and a method protects
    the rest. A wrong label is drawn anew each time an image is seen, among
    the classes that have retain images: one that was forgotten before would
    be taught again. For a detector, to call an object by another name would
    be a false positive of that class; its objects become background. Retained
    objects in forget images, where ``forgetting.other_annotations='keep'``
    leaves them there, keep their labels.

    To be made in :meth:`~gslora_mm.methods.BaseMethod.prepare`.

    Args:
        model (TaskModel): Its task says whether there is a background.
        dataset (ForgetRetainDataset): The replay images of the step.
    """

    def __init__(self, model: TaskModel, dataset: ForgetRetainDataset) -> None:
        classes = dataset.metainfo['classes']
        label_of = {name: label for label, name in enumerate(classes)}
        forget, retain = dataset.datasets
        self._to_background = model.task.has_background
        self._forgotten = torch.as_tensor(forget.labels)
        self._choices = torch.tensor(
            [
                label_of[name]
                for name, count in retain.class_counts.items()
                if count
            ]
        )

    def loss(self, forget: HalfBatch) -> Tensor:
        """The model's own loss on the forget half with wrong labels."""
        return forget.relabelled(self.draw).loss

    def draw(self, labels: Tensor) -> Tensor:
        """Replace the labels of what is to be forgotten.

        Args:
            labels (Tensor): Class ids, any shape.

        Returns:
            Tensor: The same shape; for ids of forgotten classes, wrong ones,
            or -1 for background.
        """
        if self._to_background:
            wrong = torch.full_like(labels, -1)
        else:
            index = torch.randint(len(self._choices), labels.shape)
            wrong = self._choices[index].to(labels)
        is_forgotten = torch.isin(labels, self._forgotten.to(labels))
        return torch.where(is_forgotten, wrong, labels)
