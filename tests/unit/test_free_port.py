"""The ports that tests are given."""

from __future__ import annotations

import subprocess
import sys

from celeriac.up.ports import pick_port
from tests.kit.command_line import REPOSITORY
from tests.kit.servers import free_port


def test_no_port_is_given_twice_neither_here_nor_to_another_process() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    program = f"from tests.kit.servers import _claimed; print([p for p in {ports} if _claimed(p)], _claimed(9999))"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout == "[] True\n"


def test_the_ports_of_tests_are_not_those_that_the_platform_chooses_from() -> None:
    assert free_port() < 20_000 <= pick_port()
