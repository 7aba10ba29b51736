"""Files named by a path or by an address."""

from __future__ import annotations

import functools
import hashlib
import http.client
import os
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.logging import print_log

from .atomic import atomic_write
from .errors import ConfigError, SaveError

KEY = 'forgetting.pretrained'


def local_path(path_or_url: str | os.PathLike, key: str = KEY) -> Path:
    """Find the local file of a checkpoint; download it at first use.

    Downloads go to torch.hub's folder for checkpoints and are complete or
    not there. A file whose name lacks a hash of its content goes to a
    subfolder named by its address: ``epoch_12.pth`` is a common name.

    Args:
        path_or_url (str | os.PathLike): A file, or an http(s) or file URL.
        key (str): Config key named in errors.

    Returns:
        Path: An existing file.

    Raises:
        ConfigError: If there is no such file or it cannot be downloaded.
        SaveError: If the download cannot be stored.
    """
    address = str(path_or_url)
    refusal = functools.partial(ConfigError, key, address)
    path = expected_path(address)
    scheme = urllib.parse.urlsplit(address).scheme
    if scheme in ('http', 'https') and path.name:
        if not path.is_file():
            _download(address, path, key)
    elif '://' in address and scheme != 'file':
        raise refusal(
            'is no address of a file. Valid: a path, or an address that '
            'begins with http://, https:// or file://'
        )
    if path.is_dir():
        example = path / 'epoch_12.pth'
        raise refusal(
            f'is a folder. Valid: a checkpoint file, for example {example}'
        )
    if not path.exists():
        raise refusal(
            f'no such file ({path.absolute()}). Valid: a path or an http(s) '
            'address of a checkpoint'
        )
    return path


def expected_path(path_or_url: str | os.PathLike) -> Path:
    """Where the local file of a checkpoint is, or would be downloaded to.

    Args:
        path_or_url (str | os.PathLike): As in :func:`local_path`.
    """
    address = str(path_or_url)
    if '://' not in address:
        return Path(address).expanduser()
    url = urllib.parse.urlsplit(address)
    path = Path(urllib.parse.unquote(url.path))
    if url.scheme in ('http', 'https') and path.name:
        folder = Path(torch.hub.get_dir(), 'checkpoints')
        if not re.search(r'-[0-9a-f]{8,}\.', path.name):
            folder /= hashlib.sha256(address.encode()).hexdigest()[:8]
        path = folder / path.name
    return path


def _download(url: str, path: Path, key: str) -> None:
    print_log(f'Downloading {url} to {path}', logger='current')
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            with atomic_write(path) as f:
                f.writelines(_chunks(response))
                length = response.headers.get('Content-Length')
                if length is not None and f.tell() != int(length):
                    missing = int(length) - f.tell()
                    raise http.client.IncompleteRead(b'', missing)
    except SaveError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise ConfigError(
            key,
            url,
            f'cannot be downloaded: {error}. Valid: an address that can be '
            'reached, or the path of a file fetched by other means',
        ) from error


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := response.read(2**20):
            yield chunk
    except OSError as error:
        # A lost connection must not be taken for a full disk.
        raise http.client.HTTPException(str(error)) from error
