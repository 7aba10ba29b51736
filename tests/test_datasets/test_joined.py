import pytest

from gslora_mm.datasets import ClassSubset, JoinedDataset, LabelTable
from gslora_mm.utils import ConfigError


@pytest.fixture
def joined(make_dataset, monkeypatch):
    """Two data sets of lists in one, each with a pipeline of its own."""

    def make(*parts, **kwargs):
        datasets = [
            make_dataset(labels, draw=lambda n=number: n)
            for number, labels in enumerate(parts)
        ]
        monkeypatch.setattr(
            'gslora_mm.datasets.joined.build_dataset', lambda each: each['own']
        )
        return JoinedDataset([dict(own=each) for each in datasets], **kwargs)

    return make


def test_all_images_one_after_another(joined):
    dataset = joined([[0], [1]], [[2]], [[0, 3]])
    assert len(dataset) == 4
    table = LabelTable.scan(dataset)
    assert table.images.tolist() == [0, 1, 2, 3, 3]
    assert table.labels.tolist() == [0, 1, 2, 0, 3]
    ids = [dataset.get_data_info(i)['img_id'] for i in range(4)]
    assert ids == [100, 101, 100, 100]


def test_each_image_goes_through_the_pipeline_of_its_part(joined):
    dataset = joined([[0], [1]], [[2]], [[0, 3]])
    assert [dataset[i]['inputs'] for i in range(4)] == [0, 0, 1, 2]
    subset = ClassSubset(dataset, ['person'], other_annotations='keep')
    assert subset.indices.tolist() == [0, 3]
    assert [subset[i]['inputs'] for i in range(2)] == [0, 2]


def test_the_classes_have_to_be_the_same(make_dataset, monkeypatch):
    parts = [
        dict(own=make_dataset([[0]], metainfo=dict(classes=classes)))
        for classes in (('cat', 'dog'), ('dog', 'cat'))
    ]
    monkeypatch.setattr(
        'gslora_mm.datasets.joined.build_dataset', lambda each: each['own']
    )
    with pytest.raises(ConfigError, match=r'datasets\[1\].metainfo.classes'):
        JoinedDataset(parts)


def test_a_share_of_the_images(joined):
    labels = [[number % 4] for number in range(40)]
    whole, drawn = joined(labels, [[1]] * 10), joined(
        labels, [[1]] * 10, share=0.2
    )  # fmt: skip
    assert len(drawn) == 10
    # The same ones each time, in their order, wherever they come from.
    again = joined(labels, [[1]] * 10, share=0.2)
    assert drawn.data_list == again.data_list == sorted(drawn.data_list)
    assert set(drawn.data_list) < set(whole.data_list)
    table = LabelTable.scan(drawn)
    assert table.images.tolist() == list(range(10))
    for image, label in zip(table.images, table.labels, strict=True):
        instances = drawn.get_data_info(image)['instances']
        assert instances[0]['bbox_label'] == label
    number, _ = drawn.data_list[-1]
    assert drawn[9]['inputs'] == number
    with pytest.raises(ConfigError, match='share = 0: must be in'):
        joined(labels, share=0)
