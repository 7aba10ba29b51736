import copy

from mmengine.config import Config

from gslora_mm.engine.config_text import QuickTextConfig

ENTRIES = dict(model=dict(type='A', depth=3), names=['x', 'y'], lr=1e-3)


def test_text_is_that_of_mmengine():
    assert QuickTextConfig(ENTRIES).pretty_text == Config(ENTRIES).pretty_text


def test_text_is_made_once_for_equal_contents(monkeypatch):
    first = QuickTextConfig(dict(ENTRIES, only_here=1)).pretty_text

    def refuse(*args, **kwargs):
        raise AssertionError('formatted again')

    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', refuse)
    again = copy.deepcopy(QuickTextConfig(dict(ENTRIES, only_here=1)))
    assert again.pretty_text is first


def test_text_follows_a_change():
    cfg = QuickTextConfig(ENTRIES)
    before = cfg.pretty_text
    cfg.model.depth = 4
    assert 'depth=4' in cfg.pretty_text and 'depth=3' in before
