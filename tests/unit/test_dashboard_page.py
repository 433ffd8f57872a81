"""The dashboard's page names what it will need, from the files as they are."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256

import pytest

from celeriac_api.pages.assets import assets
from celeriac_api.pages.dashboard_page import dashboard_page, imports, modules, page_policy, preloaded, view_modules
from celeriac_api.pages.texts import LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_preloads_each_module_once_and_the_catalogue_of_its_language(language: str) -> None:
    body = dashboard_page(language).body.decode()
    named = re.findall(r'<link rel="modulepreload" href="dashboard/static/([^"]+)">', body)
    assert named == preloaded()
    assert len(set(named)) == len(named)
    assert set(named) <= assets().keys()
    held = re.findall(f'<script type="application/json" id="texts" lang="{language}">(.*?)</script>', body, re.DOTALL)
    assert [json.loads(text) for text in held] == [json.loads(assets()[f"texts/{language}.json"].body)]
    assert f'<html lang="{language}">' in body
    assert body.index("modulepreload") < body.index('<script type="module"')


def test_the_modules_are_all_that_the_scripts_import() -> None:
    views = {name for name in assets() if name.startswith("views/")}
    later = {"palette.js", "new-task.js", "welcome.js"}
    first = {"app.js", *views, *later}
    known = first | {one for script in first for one in modules(script)}
    for name in known:
        assert set(imports(name)) <= known
    # The imports are read as text: each line that begins with one must have been understood.
    for name in known:
        text = assets()[name].body.decode()
        paths = set(re.findall(r'\bfrom "(\./[^"]+|\.\./[^"]+)";', text))
        assert len(paths) == len(set(imports(name))), name
    assert {"text.js", "dom.js", "views/overview.js", "views/tasks.js"} <= known


def test_each_view_is_loaded_when_it_is_opened_and_none_before() -> None:
    views = {name for name in assets() if name.startswith("views/")}
    loaded = set(re.findall(r'import\("\./(views/\w+\.js)"\)', assets()["app.js"].body.decode()))
    assert loaded == views
    assert not views & set(modules("app.js"))


def test_the_scripts_of_the_view_in_the_address_are_fetched_with_those_of_the_frame() -> None:
    views = {name for name in assets() if name.startswith("views/")}
    found = view_modules()
    assert {modules[0] for modules in found.values()} == views
    assert found["tasks"][0] == "views/tasks.js"
    assert found["tasks/"][0] == "views/task.js"
    assert "tasklist.js" in found["tasks"]
    for needed in found.values():
        assert not {"app.js", *preloaded()} & set(needed)
    body = dashboard_page("en").body.decode()
    told = re.search(r"data-views='([^']+)'", body)
    assert told
    assert json.loads(told[1]) == found
    policy = page_policy("script-src 'self'; style-src 'self'; img-src data:")
    parts = [("script", "theme.js"), ("script", "first-view.js"), ("style", "base.css"), ("style", "app.css")]
    held = [(element, assets()[name].body.decode()) for element, name in parts]
    places = [body.index(f">{text}</{element}>") for element, text in held]
    assert [*places, body.index('rel="modulepreload"')] == sorted([*places, body.index('rel="modulepreload"')])
    hashes = [f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for _, text in held]
    scripts, styles = " ".join(hashes[:2]), " ".join(hashes[2:])
    assert policy == f"script-src 'self' {scripts}; style-src 'self' {styles}; img-src data:"
    assert 'rel="stylesheet"' not in body


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("view", "most"), [("overview", 65_000), ("tasks", 75_000), ("tasks/", 97_000)])
def test_the_first_page_is_light(language: str, view: str, most: int) -> None:
    others = ["app.js", "mark.svg"]
    named = [*others, *preloaded(), *view_modules()[view]]
    sizes = {name: len(assets()[name].gzipped or assets()[name].body) for name in named}
    page = dashboard_page(language)
    # What the API answers comes on top: a few KB.
    assert sum(sizes.values()) + len(page.gzipped or page.body) < most, sizes


def test_the_mark_in_the_page_is_that_of_its_icon() -> None:
    drawn, icon = (assets()[name].body.decode() for name in ("dom.js", "mark.svg"))
    lines = re.findall(r' d="([^"]+)"', icon)
    assert len(lines) == 2
    for line in lines:
        assert f'"{line}"' in drawn
    assert re.findall('fill="(#[0-9a-f]+)"', icon)[0] in drawn
