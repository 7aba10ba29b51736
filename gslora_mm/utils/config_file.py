"""Reading config files, with errors that say what to write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from mmengine.config import Config

_PACKAGE = Path(__file__).parents[1]
#: What an installation has beside the package; a checkout has its folders.
INSTALLED = _PACKAGE / '.mim'
#: What names of configs of this package begin with, as bases do.
OWN = 'gslora_mm::'


def own_configs() -> Path:
    """Folder of the configs of this package."""
    home = INSTALLED if INSTALLED.is_dir() else _PACKAGE.parent
    return home / 'configs'


def located(config: str | os.PathLike) -> str:
    """Path of a config, which may be one of this package.

    Args:
        config (str | os.PathLike): A path, or a name such as
            ``'gslora_mm::mini/vit_mini-digits.py'``.

    Raises:
        ConfigError: If this package has no such config.
    """
    name = os.fspath(config)
    if not name.startswith(OWN):
        return name
    folder = own_configs()
    path = folder / name.removeprefix(OWN)
    if not path.is_file():
        files = sorted(folder.rglob('*.py'))
        known = [OWN + each.relative_to(folder).as_posix() for each in files]
        raise unknown_name('CONFIG', name, known)
    return str(path)


def read_config(path: str) -> Config:
    """Read a config file, of either style of MMEngine.

    Args:
        path (str): The file, see :func:`located`.

    Raises:
        ConfigError: If there is no such file, it inherits from one of the
            other style, or prints of NumPy's numbers stand in it, as NumPy 2
            writes them into dumped configs.
    """
    from mmengine.config import Config

    path = located(path)
    if not Path(path).is_file():
        raise ConfigError('CONFIG', path, 'no such file')
    try:
        return Config.fromfile(path)
    except RuntimeError as error:
        if 'inheritance chain' not in str(error):
            raise
        raise ConfigError(
            '_base_',
            valid=f'in {path}: it names a config of the new style (with '
            'read_base() or imports), which one of the old style cannot '
            'inherit from. Write that config anew and name the result: '
            'python -c "from mmengine.config import Config; '
            "Config.fromfile('NEW.py').dump('OLD.py')\"",
        ) from error
    except NameError as error:
        if getattr(error, 'name', None) not in ('np', 'numpy'):
            raise
        raise ConfigError(
            path,
            valid=f'{error}: it, or what it inherits from, has numbers as '
            'NumPy prints them. Write the numbers alone: sed -i -E '
            r"'s/np\.[a-z]+[0-9]*\(([^()]*)\)/\1/g' FILE",
        ) from error
