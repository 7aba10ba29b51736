"""Reading config files, with errors that say what to write."""

from mmengine.config import Config

from .errors import ConfigError


def read_config(path: str) -> Config:
    """Read a config file, of either style of MMEngine.

    Args:
        path (str): The file.

    Raises:
        ConfigError: If it inherits from one of the other style, or prints of
            NumPy's numbers stand in it, as NumPy 2 writes them into dumped
            configs.
    """
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
