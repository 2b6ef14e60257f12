"""Hooks of mkdocs.yml: README.md is the first page of the site, and what lies outside docs/ is linked where it can be.

The pages are read on a code host, too, so their links are paths of the repository. On the site a link that leaves docs/
leads to the repository if mkdocs.yml has its `repo_url`, and is plain text otherwise.
"""

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
_HOME, _DOCS = "README.md", "docs"
_LINK = re.compile(r"(?<!!)\[([^\[\]]*)\]\((?![a-z]+:|#)([^()\s#]+)(#[^()\s]*)?\)")


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Adds the README as the first page."""
    from mkdocs.structure.files import File

    text = (ROOT / _HOME).read_text(encoding="utf-8")
    files.append(File.generated(config, "index.md", content=with_links(text, _HOME, config.repo_url)))
    return files


def on_page_markdown(markdown: str, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Links of one page."""
    if page.file.src_uri == "index.md":
        return markdown
    return with_links(markdown, f"{_DOCS}/{page.file.src_uri}", config.repo_url)


def with_links(markdown: str, source: str, repository: str | None) -> str:
    """Markdown of the file `source`, a path of the repository, with its links and pictures as the site needs them."""
    folder = posixpath.dirname(source)
    home = _DOCS if source == _HOME else folder  # where the page lies on the site

    def replaced(match: re.Match[str]) -> str:
        text, path, anchor = match[1], posixpath.normpath(posixpath.join(folder, match[2])), match[3] or ""
        if path == _HOME:
            path = f"{_DOCS}/index.md"
        if path.startswith(f"{_DOCS}/"):
            return f"[{text}]({posixpath.relpath(path, home)}{anchor})"
        return f"[{text}]({repository.rstrip('/')}/blob/main/{path}{anchor})" if repository else text

    return _LINK.sub(replaced, markdown).replace(f"]({_DOCS}/figures/", "](figures/")
