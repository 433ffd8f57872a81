"""What the documentation says is there: files, anchors, commands with their options, settings."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from celeriac.cli.main import app
from tests.kit.command_line import REPOSITORY
from tests.kit.docs.pages import blocks_of
from tests.kit.docs.pages import pages as code_pages
from tools.celery_conformance import TARGET as COMPARED
from tools.celery_conformance import page as compared
from tools.settings_reference import TARGET, listed_settings, page

PAGES = sorted(
    path
    for path in [
        *REPOSITORY.glob("*.md"),
        *REPOSITORY.glob("docs/**/*.md"),
        *REPOSITORY.glob("examples/**/*.md"),
        *REPOSITORY.glob("bench/*.md"),
    ]
    if "node_modules" not in path.parts
)
_FENCE = re.compile(r"^ *(```|~~~).*?^ *\1", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
#: A path of this repository, as a page shows it.
_PATH = re.compile(r"(?:api|bench|deploy|docs|examples|platform|proto|tasks|tests|tools)/[\w./-]+")


def named(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def anchors_of(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", _FENCE.sub("", path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands_of(text: str) -> Iterator[str]:
    """Yield what follows `celeriac` wherever a page shows it as a command."""
    blocks = [match[0] for match in _FENCE.finditer(text)]
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    for line in [*lines, *_CODE.findall(_FENCE.sub("", text))]:
        match = re.match(r"(?:\$ )?(?:[\w./]*/)?celeriac +([a-z][a-z-]*.*)", line)
        if match and "…" not in match[1] and "..." not in match[1]:
            yield match[1].split("  #")[0].split(" # ")[0].split(" | ")[0].split(" > ")[0].rstrip("\\ ")


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_every_link_inside_leads_somewhere(path: Path) -> None:
    for target in _LINK.findall(_FENCE.sub("", path.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), f"{named(path)}: {target}"
        if anchor and found.suffix == ".md":
            assert anchor in anchors_of(found), f"{named(path)}: {target}"


def tells_of_other_versions(path: Path) -> bool:
    """Return whether a page names what is not there any more: the changelog, or a decision that was replaced."""
    return path.name == "CHANGELOG.md" or "\nReplaced by [" in path.read_text("utf-8")


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_every_path_shown_exists(path: Path) -> None:
    if tells_of_other_versions(path):
        return
    for shown in _CODE.findall(_FENCE.sub("", path.read_text("utf-8"))):
        if _PATH.fullmatch(shown) and not shown.startswith("deploy/secrets/"):
            assert (REPOSITORY / shown).exists(), f"{named(path)}: there is no {shown}"


def test_every_block_of_code_runs_or_says_why_not() -> None:
    blocks = [block for path in code_pages() for block in blocks_of(path)]
    left_out = [block.not_run for block in blocks if block.not_run is not None]
    assert all(len(reason.split()) > 4 for reason in left_out), left_out
    # All of them, and those that do not run: a change of the second number is deliberate.
    assert (len(blocks), len(left_out)) == (143, 19)


def test_both_readmes_have_the_same_sections_commands_and_links() -> None:
    english, chinese = ((REPOSITORY / name).read_text("utf-8") for name in ("README.md", "README.zh-CN.md"))

    def commands(text: str) -> list[str]:
        blocks = re.findall(r"^```(?:sh|json|yaml|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        # Comments and docstrings are translated.
        return [re.sub(r" *#.*|^ *\"\"\".*\"\"\"$", "", line) for block in blocks for line in block.splitlines()]

    def levels(text: str) -> list[int]:
        return [len(marks) for marks in re.findall(r"^(#+) ", _FENCE.sub("", text), re.MULTILINE)]

    def links(text: str) -> list[str]:
        return [link for link in _LINK.findall(_FENCE.sub("", text)) if "#" not in link and "README." not in link]

    assert levels(chinese) == levels(english)
    assert commands(chinese) == commands(english)
    assert sorted(links(chinese)) == sorted(links(english))


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_every_command_shown_exists_with_its_options(path: Path) -> None:
    root = typer.main.get_command(app)
    for text in commands_of(path.read_text("utf-8")):
        try:
            words = shlex.split(text)
        except ValueError:
            words = text.split()
        command = root
        while isinstance(command, TyperGroup) and words and re.fullmatch(r"[a-z][a-z-]*", words[0].split("|")[0]):
            for name in words.pop(0).split("|"):
                found = command.commands.get(name)
                assert found is not None, f"{named(path)}: there is no command: celeriac {text}"
            assert found is not None
            command = found
        known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h", "--version"}
        for word in words:
            if re.match(r"\[?--[a-z]", word):
                option = word.strip("[]").split("=")[0]
                assert option in known, f"{named(path)}: celeriac {text}: there is no option {option}"


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_every_make_target_shown_exists(path: Path) -> None:
    if tells_of_other_versions(path):
        return
    targets = set(re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    text = path.read_text("utf-8")
    shown = re.findall(r"(?:^|`)make ([a-z0-9-]+)", text, re.MULTILINE)
    assert set(shown) <= targets


def test_no_source_names_a_wire_contract_by_a_number() -> None:
    suffixes = {".py", ".lua", ".js", ".proto", ".sql"}
    for folder in ("platform", "api", "tasks", "proto", "tests"):
        for path in (REPOSITORY / folder).rglob("*"):
            if path.suffix in suffixes and "node_modules" not in path.parts:
                found = re.search(r"\bcontract \d", path.read_text("utf-8"), re.IGNORECASE)
                assert found is None, f"{named(path)}: {found and found[0]}: name it, or its page (docs/contracts.md)"


def test_the_page_of_settings_is_what_the_code_says() -> None:
    assert TARGET.read_text("utf-8") == page(), "run python tools/settings_reference.py"


def test_the_comparison_with_stock_celery_is_that_of_its_test_suite() -> None:
    text = COMPARED.read_text("utf-8")
    assert text == compared(text), "run python tools/celery_conformance.py"


def test_every_setting_has_a_description_of_its_own() -> None:
    by_text = defaultdict(list)
    for path, field in listed_settings():
        by_text[field.description or ""].append(path)
    assert len(by_text) > 100
    assert "" not in by_text, f"no description: {by_text['']}"
    assert {text: paths for text, paths in by_text.items() if len(paths) > 1} == {}
    assert [text for text in by_text if not re.fullmatch(r"[A-Z`].*[.]", text)] == []


_ARCHITECTURE = REPOSITORY / "docs" / "architecture.md"
#: `path/to/file.py: Class.function`, as the page of the architecture names a step.
_STEP = re.compile(r"`([\w/]+\.(?:py|lua))(?:: ([\w.]+))?`")


def missing_of(name: str, function: str) -> list[str]:
    """Return the words of `Class.function` that a file does not define; the file itself if it does not exist."""
    if not (REPOSITORY / name).exists():
        return [name]
    text = (REPOSITORY / name).read_text("utf-8")
    words = function.split(".") if function else []
    return [f"{name}: {word}" for word in words if not re.search(rf"\b(?:class|def) {word}\b", text)]


def test_every_step_of_the_architecture_exists() -> None:
    steps = _STEP.findall(" ".join(_ARCHITECTURE.read_text("utf-8").split()))
    steps = [(name, function) for name, function in steps if "/" in name]
    assert len(steps) > 30
    missing = [word for step in steps for word in missing_of(*step)]
    assert not missing, "docs/architecture.md names what does not exist (any more): " + ", ".join(missing)


def test_every_room_is_in_the_architecture() -> None:
    page = _ARCHITECTURE.read_text("utf-8")
    for package in ("platform/celeriac", "api/celeriac_api", "tasks/celeriac_tasks"):
        for folder in (REPOSITORY / package).iterdir():
            if (folder / "__init__.py").exists():
                assert f"`{folder.name}/`" in page, f"docs/architecture.md: {package}/{folder.name} is missing"
