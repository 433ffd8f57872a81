"""The reader of the documentation finds what is wrong with a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from celeriac.installation.run_file import Installation, write_installation
from tests.kit.docs.pages import blocks_of
from tests.kit.docs.reader import Reader
from tests.kit.docs.terminal import Terminal


@pytest.fixture
def read(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Read a page in an empty folder, beside an installation of which only the addresses are known."""
    folder, home, make_up = (tmp_path / name for name in ("folder", "bin", "make-up"))
    for path in (folder, home, make_up):
        path.mkdir()
    known = Installation("http://127.0.0.1:9", "grpc://127.0.0.1:9", "", "", "0", 1, "")
    write_installation(make_up, known)
    page = tmp_path / "page.md"
    with Terminal(folder, home) as terminal:
        reader = Reader(terminal, make_up=make_up, redis="redis://127.0.0.1:9/0")

        def reading(text: str) -> None:
            page.write_text(text)
            reader.read(blocks_of(page))

        yield reading


def block(language: str, text: str, mark: str = "") -> str:
    return f"{mark}\n```{language}\n{text}\n```\n"


GOOD = [
    block("python", "print(2 + 3)  # 5"),
    block("python", "print('id', object())  # id <object …>"),
    block("python", "# sums.py\nfive = 5") + block("python", "from sums import five\n\nprint(five)  # 5"),
    block("python", "# sums.py\nprint(5)") + block("sh", "python sums.py | grep 5"),
    block("sh", "NUMBER=5   # and on\ntest $NUMBER = 5 \\\n  || false"),
    block("sh", 'echo \'{"task_id": "seven"}\'\ntest TASK_ID = seven'),
    block("sh", "true\nfalse", "<!-- fails: it is false -->"),
    block("sh", "false", "<!-- not run: it is false -->"),
    block("yaml", "imports: [work]"),
]

WRONG = {
    "this was to be printed: 6": block("python", "print(2 + 3)  # 6"),
    "this was to be printed: 5": block("python", "print(15)  # 5"),
    "ModuleNotFoundError": block("python", "import not_there"),
    "nothing on the page uses sums.py": block("python", "# sums.py\nfive = 5"),
    "exit code 1": block("sh", "true\nfalse"),
    "exit code 7": block("sh", "curl -s http://127.0.0.1:8000/"),
    "1 failed": block("python", "# test_sums.py\ndef test_five():\n    assert 2 + 3 == 6")
    + block("sh", "python -m pytest"),
    "nothing of this failed": block("sh", "true", "<!-- fails: it is false -->"),
    "did you mean imports": block("yaml", "imprts: [work]"),
    "this does not end": block("sh", "echo 'five"),
}


@pytest.mark.parametrize("page", GOOD)
def test_a_page_that_works_is_read_to_its_end(read: Callable[[str], None], page: str) -> None:
    read(page)


@pytest.mark.parametrize("trouble", WRONG)
def test_what_does_not_work_is_found(read: Callable[[str], None], trouble: str) -> None:
    with pytest.raises(AssertionError, match=trouble):
        read(WRONG[trouble])
