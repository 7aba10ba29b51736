"""COCO files that are not what mmdet and pycocotools take for granted."""

import copy

import pytest

from gslora_mm.utils import ConfigError
from gslora_mm.utils.coco_annotations import ids_by_name, joined, put_in_order


def content():
    """Two images of two classes, as the format wants it."""
    return dict(
        images=[
            dict(id=number, file_name=f'{number}.png', width=60, height=40)
            for number in (1, 2)
        ],
        annotations=[
            dict(
                id=number,
                image_id=number,
                category_id=number,
                bbox=[10, 5, 20, 8],
                area=160,
                iscrowd=0,
            )
            for number in (1, 2)
        ],
        categories=[dict(id=1, name='cat'), dict(id=2, name='dog')],
    )


def test_a_file_in_order_stays_as_it_is():
    found = content()
    assert put_in_order(found, 'a.json') == 0
    assert found == content()


def quote(value):
    if isinstance(value, dict):
        return {key: quote(each) for key, each in value.items()}
    if isinstance(value, list):
        return list(map(quote, value))
    return str(value)


def without(keys):
    found = content()
    for annotation in found['annotations']:
        for key in keys:
            del annotation[key]
    return found


def with_float_ids():
    found = content()
    for annotation in found['annotations']:
        annotation['category_id'] = float(annotation['category_id'])
    return found


@pytest.mark.parametrize(
    'found',
    [
        quote(content()),
        without(['area', 'iscrowd', 'id']),
        with_float_ids(),
    ],
    ids=['quotes', 'left out', 'floats'],
)
def test_what_tools_export_is_read(found):
    put_in_order(found, 'a.json')
    assert found == content()
    for annotation in found['annotations']:
        assert all(isinstance(value, int) for value in annotation['bbox'])


def test_ids_that_are_names_stay_and_backslashes_do_not():
    found = content()
    for image, annotation in zip(
        found['images'], found['annotations'], strict=True
    ):
        image['id'] = annotation['image_id'] = f'frame_{image["id"]}'
        image['file_name'] = f'day\\{image["file_name"]}'
    put_in_order(found, 'a.json')
    assert found['annotations'][0]['image_id'] == 'frame_1'
    assert found['images'][1]['file_name'] == 'day/2.png'


@pytest.mark.parametrize('ids', [(7, 7), (0, 1)])
def test_annotation_ids_that_pycocotools_cannot_use(ids):
    found = content()
    for annotation, id_ in zip(found['annotations'], ids, strict=True):
        annotation['id'] = id_
    put_in_order(found, 'a.json')
    assert [each['id'] for each in found['annotations']] == [1, 2]


def test_empty_boxes_go():
    found = content()
    found['annotations'][0]['bbox'] = []
    assert put_in_order(found, 'a.json') == 1
    assert [each['id'] for each in found['annotations']] == [2]


@pytest.mark.parametrize(
    ('key', 'entry', 'message'),
    [
        ('annotations', dict(bbox=None), ''),
        (
            'annotations',
            dict(bbox=[1, 2]),
            r'\[1\] \(id 2\) cannot be read: b',
        ),
        ('annotations', dict(bbox=[1, 2, 'x', 4]), "could not convert.*'x'"),
        ('annotations', dict(area=float('nan')), 'area has nan'),
        ('annotations', dict(category_id=None), 'None is no id'),
        (
            'annotations',
            dict(category_id=...),
            r"\[1\] .* lacks 'category_id'",
        ),
        ('images', dict(width=...), r"images\[1\] \(id 2\) lacks 'width'"),
        ('images', dict(id=1), r'images\[0\] and images\[1\] .*same id 1'),
        ('categories', dict(name=...), "lacks 'name'"),
    ],
)
def test_what_cannot_be_read_is_named(key, entry, message):
    found = content()
    found[key][1].update(entry)
    for name, value in entry.items():
        if value is ...:
            del found[key][1][name]
    if not message:
        put_in_order(found, 'a.json')
        return
    with pytest.raises(ConfigError, match=f'ann_file = .a.json.*{message}'):
        put_in_order(found, 'a.json')


@pytest.mark.parametrize('root', ['animals', 'cat'])
def test_the_root_category_of_an_export_tool(root):
    found = content()
    found['categories'].insert(0, dict(id=0, name=root, supercategory='none'))
    put_in_order(found, 'a.json')
    assert ids_by_name(found, ['dog', 'cat', 'cow'], 'a.json') == [2, 1, None]


def test_two_categories_of_one_name():
    found = content()
    found['categories'][1]['name'] = 'cat'
    with pytest.raises(ConfigError, match="categories 1, 2 are all .*'cat'"):
        ids_by_name(found, ['cat'], 'a.json')
    found['annotations'][1]['category_id'] = 1
    assert ids_by_name(found, ['cat'], 'a.json') == [1]


def test_files_are_joined_by_the_names_of_their_categories():
    other = content()
    for image, annotation in zip(
        other['images'], other['annotations'], strict=True
    ):
        image['id'] = annotation['image_id'] = image['id'] + 10
        annotation['category_id'] = 3 - annotation['category_id']
    other['categories'] = [dict(id=1, name='dog'), dict(id=2, name='cat')]
    both = joined([content(), copy.deepcopy(other)])
    put_in_order(both, 'both')
    names = {each['id']: each['name'] for each in both['categories']}
    shown = {
        each['image_id']: names[each['category_id']]
        for each in both['annotations']
    }
    assert shown == {1: 'cat', 2: 'dog', 11: 'cat', 12: 'dog'}
    with pytest.raises(ConfigError, match='also where files are joined'):
        put_in_order(joined([content(), content()]), 'both')
