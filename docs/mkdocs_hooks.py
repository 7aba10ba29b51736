"""Hooks of MkDocs: the pages of the repository as a site, without a change.

Every page keeps its place, and what a page links to comes along, so that a
link that works on GitHub works in the site. A notebook is a page, too.
"""

import base64
import json
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = (
    '*.md',
    'docs/**/*.md',
    'configs/**/*.md',
    'benchmarks/*.md',
)
LINK = re.compile(r'\]\(([^)\s#]+)')


def pages() -> list[Path]:
    """All pages of the site."""
    return sorted(path for glob in PAGES for path in ROOT.glob(glob))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take the repository's pages, and the files that they link to."""
    found = set(pages())
    for page in pages():
        for link in LINK.findall(page.read_text(encoding='utf-8')):
            target = (page.parent / link).resolve()
            if '://' not in link and target.is_file():
                found.add(target)
    notebooks = [path for path in found if path.suffix == '.ipynb']
    own = [file for file in files if file.src_uri.startswith('assets/')]
    own += [_file(path, config) for path in sorted(found)]
    for path in notebooks:
        own += notebook_page(path, config)
    return Files(own)


def notebook_page(path: Path, config: MkDocsConfig) -> list[File]:
    """The page of a notebook, and the pictures that its cells have made."""
    name = path.relative_to(ROOT).with_suffix('').as_posix()
    parts, files = [], []
    for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
        text = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown':
            parts.append(text)
            continue
        parts.append(f'```python\n{text}\n```')
        for output in cell['outputs']:
            printed = ''.join(output.get('text', ()))
            if printed:
                parts.append(f'```text\n{printed}```')
            picture = output.get('data', {}).get('image/png')
            if picture:
                uri = f'{name}_{len(files)}.png'
                content = base64.b64decode(picture)
                files.append(File.generated(config, uri, content=content))
                parts.append(f'![What the cell draws]({Path(uri).name})')
    text = '\n\n'.join(parts)
    return [File.generated(config, f'{name}.md', content=text), *files]


def _file(path: Path, config: MkDocsConfig) -> File:
    name = path.relative_to(ROOT).as_posix()
    return File.generated(config, name, abs_src_path=str(path))


def on_page_markdown(markdown: str, **kwargs) -> str:
    """Put the reference where a comment of the page asks for it."""
    markdown = markdown.replace('.ipynb)', '.md)')
    return re.sub(r'^<!-- (::: [\w.]+) -->$', r'\1', markdown, flags=re.M)


def on_page_content(html: str, **kwargs) -> str:
    """Read the roles of docstrings, which Markdown has not."""
    role = r':(?:attr|class|data|exc|func|meth|mod):<code>(~?)([\w.]+)</code>'

    def name(match: re.Match) -> str:
        short = match[2].rpartition('.')[2] if match[1] else match[2]
        return f'<code>{short}</code>'

    return re.sub(role, name, html)
