import io
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch

from gslora_mm.utils import ConfigError
from gslora_mm.utils.checkpoint import load_checkpoint
from gslora_mm.utils.download import local_path


class Files(BaseHTTPRequestHandler):
    """Serves ``server.files``; one of them loses its second half."""

    def do_GET(self):
        self.server.requests.append(self.path)
        content = self.server.files.get(self.path.partition('?')[0])
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        half = len(content) // 2 if 'cut' in self.path else len(content)
        self.wfile.write(content[:half])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    server = HTTPServer(('127.0.0.1', 0), Files)
    server.files, server.requests = {}, []
    server.url = f'http://127.0.0.1:{server.server_port}'
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_paths_that_lead_nowhere(tmp_path):
    with pytest.raises(ConfigError, match='my.key = .*no such file'):
        load_checkpoint(tmp_path / 'a.pth', key='my.key')
    with pytest.raises(ConfigError, match='is a folder'):
        local_path(tmp_path)
    for address in (
        's3://bucket/a.pth',
        'open-mmlab://resnet50',
        'http://127.0.0.1/',
    ):
        with pytest.raises(ConfigError, match='no address of a file'):
            local_path(address)


def test_files_and_file_urls(tmp_path, monkeypatch):
    path = tmp_path / 'a b.pth'
    path.touch()
    assert local_path(path) == local_path(str(path)) == path
    assert local_path(path.as_uri()) == path
    monkeypatch.setenv('HOME', str(tmp_path))
    assert local_path('~/a b.pth') == path


def test_a_url_is_downloaded_once(server, tmp_path):
    weights = dict(state_dict=dict(x=torch.ones(2)))
    torch.save(weights, tmp_path / 'model.pth')
    content = (tmp_path / 'model.pth').read_bytes()
    server.files['/m/model-0123abcd.pth'] = content
    url = f'{server.url}/m/model-0123abcd.pth'
    for _ in range(2):
        checkpoint = load_checkpoint(url)
        assert checkpoint['state_dict']['x'].tolist() == [1, 1]
    assert server.requests == ['/m/model-0123abcd.pth']
    folder = tmp_path / 'hub' / 'checkpoints'
    assert os.listdir(folder) == ['model-0123abcd.pth']


def test_equal_names_of_different_files_do_not_mix(server):
    server.files = {'/a/last.pth': b'a', '/b/last.pth': b'b'}
    for name in 'ab':
        path = local_path(f'{server.url}/{name}/last.pth?raw=1')
        assert path.name == 'last.pth'
        assert path.read_bytes() == name.encode()


def test_failed_downloads_leave_nothing(server, tmp_path):
    server.files['/cut-01234567.pth'] = b'x' * 1000
    for name in ('cut-01234567.pth', 'missing-01234567.pth'):
        with pytest.raises(ConfigError, match=f'{name}.*cannot be downl'):
            local_path(f'{server.url}/{name}')
    hub = tmp_path / 'hub'
    assert not [path for path in hub.rglob('*') if path.is_file()]


def test_a_lost_connection_is_no_full_disk(tmp_path, monkeypatch):
    class Response(io.BytesIO):
        def read(self, size):
            raise ConnectionResetError('connection reset')

    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr('urllib.request.urlopen', lambda *_, **__: Response())
    with pytest.raises(ConfigError, match='cannot be .*: connection reset'):
        local_path('http://nowhere/a.pth')
