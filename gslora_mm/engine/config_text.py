"""A config whose text is made once."""

from collections import OrderedDict

from mmengine.config import Config

_texts: OrderedDict[str, str] = OrderedDict()
_MAX_TEXTS = 8


class QuickTextConfig(Config):
    """A :class:`Config` that remembers its formatted text.

    MMEngine formats the text of a config anew - with yapf, the better part of
    a second - for its log, its dump, every visualizer backend and every
    checkpoint; in a short step that is a tenth of the time. Texts are kept by
    content, so that a config may be changed and copied as ever.
    """

    @property
    def pretty_text(self) -> str:
        """str: The config as formatted Python code."""
        content = repr(self._cfg_dict)
        if content not in _texts:
            _texts[content] = super().pretty_text
            if len(_texts) > _MAX_TEXTS:
                _texts.popitem(last=False)
        return _texts[content]
