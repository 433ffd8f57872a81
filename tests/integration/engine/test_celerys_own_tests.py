"""A handful of the tests that Celery itself comes with, on an adopted app. `make celery-suite` runs them all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.celery_suite.comparison import expected_differences, left_out
from tests.celery_suite.running import Suite
from tests.celery_suite.sdist import NoSdistError, celerys_tests

_CANVAS = [
    "test_chain::test_chain_inside_group_receives_arguments",
    "test_xmap_xstarmap::test_starmap_in_a_group_and_a_chain",
    "test_chain::test_group_chord_group_chain",
    "test_group::test_nested_group_group",
    "test_chord::test_chord_in_chain_with_args",
    "test_chord::test_error_propagates_to_chord_from_group",
]


@pytest.fixture
def suite_folder() -> Path:
    try:
        return celerys_tests()
    except NoSdistError as exc:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(exc))


def test_celerys_own_tests_of_canvases_pass_on_an_adopted_app(suite_folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    tests = [f"t/integration/test_canvas.py::{name}" for name in _CANVAS]
    ends = Suite(suite_folder, "adopted").run(*tests, log=log)
    assert {test: end.outcome for test, end in ends.items()} == dict.fromkeys(tests, "passed"), log.read_text()


def test_the_list_of_expected_differences_names_tests_that_exist(suite_folder: Path) -> None:
    folder = suite_folder / "t" / "integration"
    for name in [*left_out(), *expected_differences("adopted"), *expected_differences("own")]:
        file, *parts = name.partition("[")[0].split("::")
        source = (folder / f"{file.removesuffix('.py')}.py").read_text()
        assert all(part in source for part in parts), name
