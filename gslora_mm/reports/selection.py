"""Which validation images show what is forgotten."""

from collections.abc import Sequence


def choose_images(
    names: Sequence[Sequence[str]],
    groups: Sequence[Sequence[str]],
    count: int,
) -> list[int]:
    """Choose images on which the forgetting can be seen.

    The groups of classes take turns. Each takes the image with most of its
    classes that no earlier choice has shown, if possible with a class of no
    group and with few objects; the first of equals. The choice depends on
    the ground truth alone, so it is the same for all models.

    Args:
        names (Sequence[Sequence[str]]): Classes of the objects of each
            image, one per object.
        groups (Sequence[Sequence[str]]): Such as the forgotten classes, by
            step.
        count (int): How many images to choose at most.

    Returns:
        list[int]: Positions in ``names``, in the order of their choice.
    """
    seen = [set(objects) for objects in names]
    grouped = set().union(*groups)
    shown: set[str] = set()
    chosen: list[int] = []
    for turn in range(count if groups else 0):
        group = set(groups[turn % len(groups)])
        ranks = [
            (
                len(seen[index] & group - shown),
                bool(seen[index] - grouped),
                -max(len(names[index]), 3),  # one to three are all welcome
                -index,
            )
            for index in range(len(names))
            if index not in chosen and seen[index] & group
        ]
        if ranks:
            chosen.append(-max(ranks)[-1])
            shown |= seen[chosen[-1]]
    return chosen
