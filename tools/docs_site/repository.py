"""Files of the repository on the site: README.md is the home page, and whatever a page links to has a page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

ROOT = Path(__file__).parents[2]
_DOCS = "docs/"
_HOME = "README.md"
#: What `mkdocs.yml` names beside the pages of docs/.
_IN_THE_NAVIGATION = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
#: Everything of a page that is not prose: fenced blocks and code within a line.
_CODE = re.compile(r"^ *(`{3,}|~~~).*?^ *\1|(`+)[^`].*?\2", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_LANGUAGES = {".py": "python", ".js": "js", ".json": "json", ".yaml": "yaml", ".yml": "yaml", ".proto": "protobuf",
              ".html": "html", ".toml": "toml", ".sh": "sh", ".css": "css"}  # fmt: skip
_LEFT_OUT = {"__pycache__", "node_modules"}


def with_site_links(markdown: str, page: str) -> str:
    """Return a page's text with links of the site; `page` is its name on the site."""
    source = _shown().get(page, _DOCS + page)
    if source == _DOCS + page and not (ROOT / source).exists():
        return markdown
    return _each_link(markdown, lambda target: _on_site(target, source, page))


def pages() -> Iterator[tuple[str, str]]:
    """Yield the name on the site and the text of each page that a file or folder outside docs/ has."""
    for name, source in _shown().items():
        path = ROOT / source
        if path.suffix == ".md":
            # A search finds the pages of docs/ first.
            head = "hide: [navigation]" if source == _HOME else "search: {boost: 0.3}"
            yield name, f"---\n{head}\n---\n{path.read_text('utf-8')}{_folder(path)}"
        elif path.is_dir():
            yield name, f"# {source}\n{_folder(path / 'README.md')}"
        else:
            language = _LANGUAGES.get(path.suffix, "text")
            text = f"---\nsearch: {{exclude: true}}\n---\n# {path.name}\n\n`{source}`\n"
            yield name, f"{text}\n`````{language}\n{path.read_text('utf-8')}\n`````\n"


@cache
def _shown() -> dict[str, str]:
    """Return which page of the site shows which file or folder: what the pages of docs/ and README.md lead to."""
    found = {"index.md": _HOME, **{_name_of(name): name for name in _IN_THE_NAVIGATION}}
    waiting = [_HOME, *_IN_THE_NAVIGATION, *(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
    while waiting:
        source = waiting.pop()
        for target in _targets(source):
            name = _name_of(target)
            if not target.startswith(_DOCS) and name not in found and (ROOT / target).exists():
                found[name] = _with_readme(target)
                waiting.append(found[name])
    return found


def _targets(source: str) -> set[str]:
    """Return the files and folders, from the root of the repository, that a page links to."""
    path = ROOT / source
    if path.is_dir():
        return {f"{source}/{one}" for one in _contents(path)}
    if path.suffix != ".md":
        return set()
    targets = {_resolved(target, source) for target in _LINK.findall(_CODE.sub("", path.read_text("utf-8")))}
    if _is_folder_readme(path):
        targets |= {f"{PurePosixPath(source).parent}/{one}" for one in _contents(path.parent)}
    return targets - {""}


def _each_link(markdown: str, change: Callable[[str], str]) -> str:
    """Return a text with each link outside of code replaced by what `change` returns for its target."""
    code: list[str] = []

    def keep(match: re.Match[str]) -> str:
        code.append(match[0])
        return f"\0{len(code) - 1}\0"

    # A label may have code in it, so the code is put aside and not cut out.
    text = _LINK.sub(lambda match: change(match[1]), _CODE.sub(keep, markdown))
    return re.sub(r"\0(\d+)\0", lambda match: code[int(match[1])], text)


def _on_site(target: str, source: str, page: str) -> str:
    """Return a link's target as it is on the site."""
    found = _resolved(target, source)
    _, mark, anchor = target.partition("#")
    if not found or not (ROOT / found).exists():
        return target
    name = found.removeprefix(_DOCS) if found.startswith(_DOCS) else _name_of(found)
    return relpath(name, str(PurePosixPath(page).parent)) + mark + anchor


def _resolved(target: str, source: str) -> str:
    """Return the path, from the root of the repository, that a link of `source` names; "" if it names none."""
    if re.match(r"[a-z]+:", target) or target.startswith("#"):
        return ""
    folder = source if (ROOT / source).is_dir() else PurePosixPath(source).parent
    return normpath(f"{folder}/{target.partition('#')[0]}")


def _name_of(source: str) -> str:
    """Return the name of the page that shows a file or folder; a folder and its README.md have one page."""
    source = _with_readme(source)
    if source == _HOME:
        return "index.md"
    return f"repository/{source}" if source.endswith(".md") else f"repository/{source}.md"


def _with_readme(source: str) -> str:
    return f"{source}/README.md" if (ROOT / source / "README.md").exists() else source


def _is_folder_readme(path: Path) -> bool:
    return path.name == "README.md" and ROOT / "examples" in path.parents


def _folder(readme: Path) -> str:
    """Return the list of the files beside a README.md of the examples."""
    if not _is_folder_readme(readme):
        return ""
    return "\n## Files\n\n" + "".join(f"- [{name}]({name})\n" for name in _contents(readme.parent))


def _contents(folder: Path) -> list[str]:
    names = (path.name for path in sorted(folder.iterdir()) if path.name not in _LEFT_OUT and path.name != "README.md")
    return [name for name in names if not name.startswith(".")]
