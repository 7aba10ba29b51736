"""The documentation as a site: it builds without a warning, from any clone."""

import importlib
import inspect
import os
import re
import subprocess
import sys

import pytest

from tests.test_docs import ROOT

#: Packages of which all public names stand in the reference.
PUBLIC = (
    'lora',
    'evaluation',
    'models.losses',
    'datasets',
    'sequence',
    'tasks',
    'methods',
    'audits',
)


@pytest.mark.parametrize('package', PUBLIC)
def test_the_reference_has_all_names(package):
    module = importlib.import_module(f'gslora_mm.{package}')
    page = (ROOT / 'docs/en/api.md').read_text()
    listed = set(
        re.findall(rf'<!-- ::: gslora_mm.{package}\.(\w+) -->', page)
    )
    public = getattr(module, '__all__', None) or [
        name for name in vars(module) if not name.startswith('_')
    ]
    # What else is there are modules and annotations of settings.
    found = {
        name
        for name in public
        if inspect.isclass(each := getattr(module, name))
        or inspect.isfunction(each)
        if each.__module__.startswith('gslora_mm')
    }
    assert found == listed
    section = page.partition(f'\n## gslora_mm.{package}\n')[2]
    section = section.partition('\n## ')[0]
    assert all(f'`{name}`' in section for name in listed)


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip('mkdocs', reason='requirements/docs.txt')
    done = subprocess.run(
        [sys.executable, '-m', 'mkdocs', 'build', '-d', str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, 'NO_MKDOCS_2_WARNING': '1'},
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert 'WARNING' not in said, said
    reference = (tmp_path / 'docs/en/api/index.html').read_text()
    assert 'id="gslora_mm.lora.inject_lora"' in reference
    assert 'Names of modules that get no adapter' in reference  # docstrings
    assert ':class:' not in reference and '<!-- :::' not in reference
    # Where a page stands, and what it links to.
    config = 'configs/mini/gs-lora_vit_mini-digits_3x2.py'
    assert (tmp_path / config).read_text() == (ROOT / config).read_text()
    assert (tmp_path / 'configs/mini/index.html').is_file()
    notebook = (tmp_path / 'docs/en/forgetting/index.html').read_text()
    assert 'write_request' in notebook
    # Nothing is fetched from elsewhere.
    home = (tmp_path / 'index.html').read_text()
    tags = re.findall(r'<(?:script|link rel="stylesheet"|img)[^>]+>', home)
    assert tags and not [tag for tag in tags if '://' in tag]
