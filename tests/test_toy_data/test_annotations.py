import collections

from gslora_mm.toy_data.annotations import class_names, make_annotations
from gslora_mm.utils.coco_annotations import put_in_order


def test_annotations_of_a_size():
    content = make_annotations(num_images=40, num_boxes=300, num_classes=20)
    again = make_annotations(num_images=40, num_boxes=300, num_classes=20)
    assert content == again
    assert content != make_annotations(40, 300, 20, seed=1)
    assert put_in_order(again, 'a.json') == 0 and again == content
    assert len(content['images']) == 40
    assert [c['name'] for c in content['categories']] == class_names(20)
    boxes = content['annotations']
    counts = collections.Counter(each['category_id'] for each in boxes)
    assert counts.total() == 300 and set(counts) == set(range(1, 21))
    assert counts[1] > 3 * counts[20]
    assert {each['image_id'] for each in boxes} == set(range(40))
    for each in boxes:
        x, y, width, height = each['bbox']
        assert 0 <= x < 640 and 0 <= y < 480 and min(width, height) >= 8
