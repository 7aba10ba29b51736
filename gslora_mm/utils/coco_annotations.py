"""COCO annotation files as tools export them, in the form that all can read.

mmdet and pycocotools take for granted what the format only suggests: whole
numbers for ids, areas, annotation ids that occur once. Here the content of
a file is put in order, or the entry that cannot be is named.
"""

import collections
import itertools
import json
import math
import operator
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from .errors import ConfigError
from .garbage import no_search_for_garbage
from .text import shortened

_WHOLE = re.compile(r'-?\d+(\.0+)?')
_LISTS = ('images', 'annotations', 'categories')
#: How an entry of a list is called in errors, by its keys.
_NEEDED = dict(
    images=('id', 'file_name', 'width', 'height'),
    annotations=('image_id', 'category_id', 'bbox'),
    categories=('id', 'name'),
)


def read_annotations(path: str, file: str) -> tuple[dict, int]:
    """Read a COCO file and put it in order.

    Args:
        path (str): The file here.
        file (str): Its path as the config has it, for errors.

    Returns:
        tuple[dict, int]: Its content, and how many annotations without a box
        have been taken out.

    Raises:
        ConfigError: See :func:`put_in_order`.
    """
    with no_search_for_garbage():
        try:
            with open(path, encoding='utf-8') as stream:
                content = json.load(stream)
        except ValueError as error:
            raise _not_coco(file, error) from error
        return content, put_in_order(content, file)


def joined(contents: Sequence[dict]) -> dict:
    """Put COCO files one after another; categories are told by their names.

    Args:
        contents (Sequence[dict]): Of files, in order.

    Returns:
        dict: To be put in order, which refuses an image id that occurs twice.
    """
    ids: dict[str, int] = {}
    for content in contents:
        for category in content['categories']:
            ids.setdefault(category['name'], len(ids) + 1)
    out: dict = dict(
        images=[each for content in contents for each in content['images']],
        annotations=[],
        categories=[dict(id=ids[name], name=name) for name in ids],
    )
    for content in contents:
        names = {each['id']: each['name'] for each in content['categories']}
        out['annotations'] += [
            {**each, 'category_id': ids[names[each['category_id']]]}
            for each in content['annotations']
            if each['category_id'] in names
        ]
    return out


def put_in_order(content: Any, file: str) -> int:
    """Give a COCO file's content whole ids, numbers and what it leaves out.

    Numbers in quotes and whole ones with a point (``"7"``, ``7.0``) become
    integers; ids that are no numbers, such as names of files, stay. A
    missing ``area`` is that of the box, a missing ``iscrowd`` 0. Annotation
    ids are numbered anew where they are missing, no numbers, not unique or 0,
    which pycocotools takes for no match. Annotations with an empty box go.
    Backslashes in names of files become slashes.

    Args:
        content (Any): The file's content, changed in place.
        file (str): Its path, for errors.

    Returns:
        int: Annotations without a box.

    Raises:
        ConfigError: With the path ``ann_file``; names the first entry that
            cannot be read.
    """
    try:
        for name in _LISTS:
            if not isinstance(content[name], list):
                raise TypeError(f'{name} must be a list')
    except (KeyError, TypeError) as error:
        raise _not_coco(file, error) from error
    readers = dict(
        images=_read_image,
        annotations=_read_annotation,
        categories=_read_category,
    )
    for name in _LISTS:
        if name == 'annotations' and _are_in_order(content[name]):
            continue
        for number, entry in enumerate(content[name]):
            try:
                readers[name](entry)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise _unreadable(file, name, number, entry, error) from error
    for name in ('images', 'categories'):
        _check_unique(content[name], name, file)
    annotations = [each for each in content['annotations'] if each['bbox']]
    num_empty = len(content['annotations']) - len(annotations)
    content['annotations'] = annotations
    ids = {each.get('id') for each in annotations}
    are_usable = all(type(each) is int and each for each in ids)
    if len(ids) < len(annotations) or not are_usable:
        for number, each in enumerate(annotations, 1):
            each['id'] = number
    return num_empty


def ids_by_name(
    content: Mapping, classes: Sequence[str], file: str
) -> list[int | None]:
    """Find the categories of some classes, in the order of the classes.

    Of categories with one name the one that has annotations counts: export
    tools put a root category before the others, now and then with the name
    of a class.

    Args:
        content (Mapping): Of a COCO file, in order.
        classes (Sequence[str]): Their names.
        file (str): Path of the file, for errors.

    Returns:
        list[int | None]: Ids; None for a class that the file lacks.

    Raises:
        ConfigError: With the path ``ann_file``, if two categories with
            annotations have one name.
    """
    ids = collections.defaultdict(list)
    for category in content['categories']:
        ids[category['name']].append(category['id'])
    used: set = set()
    if any(len(ids[name]) > 1 for name in classes):
        used = {each['category_id'] for each in content['annotations']}
    found: list[int | None] = []
    for name in classes:
        same = ids.get(name, [])
        if len(same) > 1:
            same = [each for each in same if each in used] or same[:1]
        if len(same) > 1:
            raise ConfigError(
                'ann_file',
                file,
                f'its categories {shortened(map(str, same))} are all called '
                f'{name!r} and have annotations; give each a name of its '
                'own, or their annotations one category_id',
            )
        found.append(same[0] if same else None)
    return found


def lost_objects(path: str, file: str, classes: Collection[str]) -> str:
    """Say why mmdet's ``CocoDataset`` learns nothing of annotations.

    Args:
        path (str): A COCO file.
        file (str): Its path as the config has it, for errors.
        classes (Collection[str]): Names of the data set's classes.

    Returns:
        str: How many annotations are lost for which reason, in the order in
        which the data set asks, and the names of both sides.

    Raises:
        ConfigError: If the file cannot be read.
    """
    content, num_empty = read_annotations(path, file)
    images = {each['id']: each for each in content['images']}
    names = {each['id']: each['name'] for each in content['categories']}
    lost = collections.Counter({'without a box': num_empty})
    for each in content['annotations']:
        image = images.get(each['image_id'])
        lost[_reason(each, image, names, classes)] += 1
    total = lost.total()
    lost.pop('', None)
    counts = [f'{count} {reason}' for reason, count in lost.items() if count]
    return (
        f'{lost.total()} of {total} annotations of {len(images)} images are '
        'lost: '
        f'{", ".join(counts) or "none"}; its categories are '
        f'{shortened(names.values()) or "none"}; the classes are '
        f'{shortened(classes)}'
    )


def _reason(
    each: Mapping, image: Mapping | None, names: Mapping, classes: Collection
) -> str:
    """Why nothing is learned of one annotation; '' if it is."""
    if image is None:
        return 'of images that are not in `images`'
    if each.get('ignore', False):
        return 'with `ignore` set'
    x, y, width, height = each['bbox']
    if image['width'] <= 0 or image['height'] <= 0:
        return 'on images whose width or height is 0 or less'
    if max(map(abs, each['bbox'])) <= 1:
        return (
            'with boxes in fractions of the image (COCO has pixels: x, y, '
            'width, height)'
        )
    if width < 1 or height < 1 or each['area'] <= 0:
        return 'whose box is smaller than a pixel, or whose area is 0'
    if not (
        min(x + width, image['width']) > max(x, 0)
        and min(y + height, image['height']) > max(y, 0)
    ):
        return 'with boxes outside of their image'
    if each['category_id'] not in names:
        return 'whose category_id is not in `categories`'
    if names[each['category_id']] not in classes:
        return 'of categories that are none of the classes'
    return 'of crowds (iscrowd)' if each.get('iscrowd', 0) else ''


def _not_coco(file: str, error: Exception) -> ConfigError:
    return ConfigError(
        'ann_file',
        file,
        f'is not a COCO annotation file ({type(error).__name__}: {error}); '
        f'it needs the lists {", ".join(_LISTS)}',
    )


def _unreadable(
    file: str, name: str, number: int, entry: Any, error: Exception
) -> ConfigError:
    """Name the entry of a list that cannot be read."""
    where = f'{name}[{number}]'
    if not isinstance(entry, dict):
        return ConfigError(
            'ann_file', file, f'{where} is {entry!r}, and not an object'
        )
    if 'id' in entry:
        where += f' (id {entry["id"]!r})'
    absent = [key for key in _NEEDED[name] if key not in entry]
    if absent:
        what = f'lacks {absent[0]!r}'
    else:
        what = f'cannot be read: {error}'
    return ConfigError('ann_file', file, f'{where} {what}')


def _check_unique(entries: Sequence[Mapping], name: str, file: str) -> None:
    """Refuse ids that occur twice: one entry would hide the other."""
    places: dict[Any, int] = {}
    for number, entry in enumerate(entries):
        first = places.setdefault(entry['id'], number)
        if first != number:
            raise ConfigError(
                'ann_file',
                file,
                f'{name}[{first}] and {name}[{number}] have the same id '
                f'{entry["id"]!r}; each needs one of its own, also where '
                'files are joined',
            )


def _read_image(image: dict) -> None:
    image['id'] = _whole(image['id'])
    image['file_name'] = str(image['file_name']).replace('\\', '/')
    for key in ('width', 'height'):
        image[key] = _number(image[key], key)


def _read_category(category: dict) -> None:
    category['id'] = _whole(category['id'])
    category['name'] = str(category['name'])


def _read_annotation(annotation: dict) -> None:
    for key in ('image_id', 'category_id'):
        if type(annotation[key]) is not int:
            annotation[key] = _whole(annotation[key])
    box = annotation['bbox'] or []
    if box and len(box) != 4:
        raise ValueError(f'bbox = {box!r} must be x, y, width and height')
    annotation['bbox'] = [_number(value, 'bbox') for value in box]
    if box and 'area' not in annotation:
        annotation['area'] = annotation['bbox'][2] * annotation['bbox'][3]
    annotation['area'] = _number(annotation.get('area', 0), 'area')
    is_crowd = annotation.get('iscrowd') or 0
    annotation['iscrowd'] = int(_number(is_crowd, 'iscrowd'))


def _are_in_order(annotations: list) -> bool:
    """Whether nothing of annotations has to be changed, asked in bulk."""
    need = ('image_id', 'category_id', 'iscrowd', 'area', 'bbox')
    try:
        *whole, areas, boxes = (
            list(map(operator.itemgetter(key), annotations)) for key in need
        )
        numbers = [*areas, *itertools.chain.from_iterable(boxes)]
        return (
            set(map(type, itertools.chain(*whole))) <= {int}
            and set(map(type, boxes)) <= {list}
            and set(map(len, boxes)) <= {4}
            and set(map(type, numbers)) <= {int, float}
            and bool(np.isfinite(np.array(numbers, float)).all())
        )
    except (KeyError, TypeError, OverflowError):
        return False


def _whole(value: Any) -> Any:
    """An id as an integer, if it is one in other clothes."""
    if isinstance(value, str):
        return int(float(value)) if _WHOLE.fullmatch(value) else value
    if isinstance(value, int | float) and float(value).is_integer():
        return int(value)
    raise ValueError(f'{value!r} is no id')


def _number(value: Any, key: str) -> int | float:
    """A number that may stand in quotes."""
    if type(value) is int:
        return value
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f'{key} has {value!r}, which is no finite number')
    return int(number) if number.is_integer() else number
