"""What `mkdocs.yml` calls while it builds the site: pages that docs/ does not have, and links that leave docs/.

The pages of docs/ are written for a code host: they link to files of the repository by their paths. On the site those
files have pages of their own, below `repository/`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from tools.docs_site import command_line, http_api, python_api, repository

_HERE = Path(__file__).parent
_ROOT = repository.ROOT
_MARK = _ROOT / "api" / "celeriac_api" / "pages" / "static" / "mark.svg"
_DECISIONS = _ROOT / "docs" / "decisions"
_REFERENCE = """# Reference

| reference | made from |
| --- | --- |
| [Python](python-tasks.md) | the docstrings of `celeriac`, `celeriac.testing` and `celeriac.client` |
| [The command line](command-line.md) | `celeriac --help` |
| [HTTP](http.md) | the OpenAPI document of the API |
| [Settings](../settings.md) | the settings of the code |
| [Wire contracts](../contracts.md) | what clients can rely on |
| [Architecture](../architecture.md) | where things are in the code |
"""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put all decisions into the navigation."""
    decisions: list[dict[str, str] | str] = [f"decisions/{path.name}" for path in sorted(_DECISIONS.glob("*.md"))]
    config.nav = [*(config.nav or []), {"Decisions": ["decisions/index.md", *decisions]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and files that docs/ does not have."""
    files.append(File.generated(config, "site/mark.svg", abs_src_path=str(_MARK)))
    files.append(File.generated(config, "site/site.css", abs_src_path=str(_HERE / "site.css")))
    for name, text in _pages():
        files.append(File.generated(config, name, content=text))
    for name, content in http_api.files():
        files.append(File.generated(config, name, content=content))
    for name, text in repository.pages():
        files.append(File.generated(config, name, content=text, inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files of the repository lead to their pages."""
    return repository.with_site_links(markdown, page.file.src_uri)


def _pages() -> Iterator[tuple[str, str]]:
    yield "reference/index.md", _REFERENCE
    yield "reference/http.md", http_api.page()
    yield "reference/command-line.md", command_line.page()
    yield "decisions/index.md", _decisions()
    yield from python_api.pages()


def _decisions() -> str:
    lines = [
        "# Decisions",
        "",
        "Choices that would surprise a reader of the code, each with its context and its price.",
        "",
    ]
    for path in sorted(_DECISIONS.glob("*.md")):
        number, _, title = path.read_text("utf-8").splitlines()[0].removeprefix("# ").partition(". ")
        lines.append(f"- [{number}. {title}]({path.name})")
    return "\n".join([*lines, ""])
