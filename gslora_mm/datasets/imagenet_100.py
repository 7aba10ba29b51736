"""ImageNet-100: a hundred classes within the label space of all thousand."""

import functools
import os
from collections import Counter
from pathlib import Path

from mmengine.dataset import BaseDataset

from gslora_mm.registry import DATASETS
from gslora_mm.utils.errors import ConfigError

#: WordNet ids (the names of the folders) and labels of the classes that
#: contrastive learning has made the usual hundred: Tian et al., "Contrastive
#: Multiview Coding", arXiv 1906.05849, file ``imagenet100.txt`` of its code.
#: In the order of the labels, which is that of the ids.
_LIST = """
    n01558993:15 n01692333:45 n01729322:54 n01735189:57 n01749939:64
    n01773797:74 n01820546:90 n01855672:99 n01978455:119 n01980166:120
    n01983481:122 n02009229:131 n02018207:137 n02085620:151 n02086240:155
    n02086910:157 n02087046:158 n02089867:166 n02089973:167 n02090622:169
    n02091831:176 n02093428:180 n02099849:209 n02100583:211 n02104029:222
    n02105505:228 n02106550:234 n02107142:236 n02108089:242 n02109047:246
    n02113799:267 n02113978:268 n02114855:272 n02116738:275 n02119022:277
    n02123045:281 n02138441:299 n02172182:305 n02231487:313 n02259212:317
    n02326432:331 n02396427:342 n02483362:368 n02488291:374 n02701002:407
    n02788148:421 n02804414:431 n02859443:449 n02869837:452 n02877765:455
    n02974003:479 n03017168:494 n03032252:498 n03062245:503 n03085013:508
    n03259280:544 n03379051:560 n03424325:570 n03492542:592 n03494278:593
    n03530642:599 n03584829:606 n03594734:608 n03637318:619 n03642806:620
    n03764736:653 n03775546:659 n03777754:662 n03785016:665 n03787032:667
    n03794056:674 n03837869:682 n03891251:703 n03903868:708 n03930630:717
    n03947888:724 n04026417:748 n04067472:758 n04099969:765 n04111531:766
    n04127249:772 n04136333:775 n04229816:796 n04238763:798 n04336792:830
    n04418357:854 n04429376:857 n04435653:858 n04485082:872 n04493381:876
    n04517823:882 n04589890:904 n04592741:908 n07714571:936 n07715103:938
    n07753275:953 n07831146:959 n07836838:960 n13037406:993 n13040303:994
"""
IMAGENET_100: dict[str, int] = {
    pair[:9]: int(pair[10:]) for pair in _LIST.split()
}
NUM_CLASSES = 1000
_EXTENSIONS = ('.jpeg', '.jpg', '.png')


@DATASETS.register_module()
class ImageNet100(BaseDataset):
    """The images of a hundred of ImageNet's classes, labels of all thousand.

    For models that tell all thousand classes apart: forgetting a class never
    renumbers another. Names of classes are the first of their synonyms, such
    as ``'robin'``; see :func:`imagenet_names`.

    Args:
        data_prefix (str | dict): Folder in ``data_root`` with a folder of
            images for each class, named by WordNet ids (``n01440764`` ...).
            Folders of other classes are ignored. Defaults to ''.
        others (bool): Whether the images of the 900 other classes are wanted,
            too; all 1,000 folders have to be there then. Defaults to False.
        metainfo (dict, optional): More of it, or other names of classes.
        **kwargs: Other arguments of MMEngine's ``BaseDataset``.

    Raises:
        ConfigError: Folders of classes are missing or hold no image.
    """

    def __init__(
        self,
        data_prefix: str | dict = '',
        others: bool = False,
        metainfo: dict | None = None,
        **kwargs,
    ) -> None:
        if isinstance(data_prefix, str):
            data_prefix = dict(img_path=data_prefix)
        self.others = others
        super().__init__(
            metainfo={'classes': imagenet_names(), **(metainfo or {})},
            data_prefix=data_prefix,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """List the images.

        Returns:
            list[dict]: ``img_path`` and ``gt_label`` (0..999) of each, in
            the order of classes and of names of files.
        """
        root = Path(self.data_prefix['img_path'])
        refusal = functools.partial(ConfigError, 'data_prefix', str(root))
        there = sorted(path.name for path in root.glob('*') if path.is_dir())
        labels = IMAGENET_100
        if self.others:
            # The order of labels is that of the ids, as everywhere.
            labels = {name: label for label, name in enumerate(there)}
            is_imagenet = IMAGENET_100.items() <= labels.items()
            if len(there) != NUM_CLASSES or not is_imagenet:
                raise refusal(
                    f'holds {len(there)} folders that are not those of the '
                    '1,000 classes of ILSVRC 2012 (n01440764 ... n15075141); '
                    'they are needed because of others=True'
                )
        missing = sorted(set(labels) - set(there))
        if missing:
            raise refusal(
                f'{len(missing)} of the {len(labels)} folders of classes are '
                f'missing, such as {", ".join(missing[:3])}'
            )
        images = []
        for name, label in labels.items():
            files = sorted(
                entry.path
                for entry in os.scandir(root / name)
                if entry.name.lower().endswith(_EXTENSIONS)
            )
            if not files:
                raise refusal(f'the folder {name} holds no image')
            images += [dict(img_path=file, gt_label=label) for file in files]
        return images


def imagenet_names() -> tuple[str, ...]:
    """Short and unique names of ImageNet's 1,000 classes.

    Returns:
        tuple[str]: In the order of labels: the first synonym of each; those
        of two classes have the label behind them, such as ``'crane 517'``.
    """
    from mmpretrain.datasets.categories import IMAGENET_CATEGORIES

    names = [synonyms.split(',')[0] for synonyms in IMAGENET_CATEGORIES]
    counts = Counter(names)
    return tuple(
        name if counts[name] == 1 else f'{name} {label}'
        for label, name in enumerate(names)
    )
