"""Lists of pairs, and the tool that writes them."""

from collections import Counter

import pytest
from PIL import Image

from gslora_mm.evaluation.face_verification import read_pairs
from gslora_mm.utils import ConfigError
from gslora_mm.utils.face_pairs import face_pairs, list_images
from tests.test_tools.helpers import load_tool

main = load_tool('dataset_tools/make_face_pairs').main


@pytest.fixture
def root(tmp_path):
    for identity in range(4):
        folder = tmp_path / 'val' / f'id_{identity}'
        folder.mkdir(parents=True)
        for image in range(identity + 1):
            Image.new('RGB', (4, 4)).save(folder / f'{image}.png')
    (tmp_path / 'val' / 'list.txt').write_text('no image')
    (tmp_path / 'val' / 'empty').mkdir()
    return tmp_path / 'val'


def test_every_two_identities_and_every_identity_have_pairs(root):
    images = list_images(root)
    assert list(images) == ['id_0', 'id_1', 'id_2', 'id_3']
    assert images['id_1'] == ['id_1/0.png', 'id_1/1.png']
    pairs = face_pairs(images, same=2, different=3)
    kinds = Counter(
        (first.split('/')[0], second.split('/')[0], same)
        for first, second, same in pairs
    )
    for one in range(4):
        for other in range(one):
            assert kinds[f'id_{other}', f'id_{one}', 0] == 3
        # as many as there are of the first two
        expected = min(2, one * (one + 1) // 2)
        assert kinds[f'id_{one}', f'id_{one}', 1] == expected
    assert sum(kinds.values()) == len(pairs) == 18 + 0 + 1 + 2 + 2
    own = [pair for pair in pairs if pair[2]]
    assert len(set(own)) == len(own) and all(a != b for a, b, _ in own)


def test_the_tool(root, tmp_path, capsys):
    out = tmp_path / 'new' / 'pairs.txt'
    for _ in range(2):
        main(['--root', str(root), '--out', str(out), '--same', '2'])
    assert '5 pairs of one and 6 of two of 4 identities' in capsys.readouterr(
    ).out  # fmt: skip
    assert read_pairs(out) == [
        (first, second, bool(same))
        for first, second, same in face_pairs(list_images(root), same=2)
    ]


def test_what_cannot_be_listed(root, tmp_path):
    with pytest.raises(SystemExit, match='--same = 0: must be at least 1'):
        main(['--root', str(root), '--out', 'x', '--same', '0'])
    with pytest.raises(ConfigError, match='0 folders with images'):
        list_images(tmp_path / 'nowhere')
    Image.new('RGB', (4, 4)).save(root / 'id_0' / 'my face.png')
    with pytest.raises(ConfigError, match='has white space in its name'):
        list_images(root)
