"""The primary of the store is killed, frozen and cut off: no accepted task is lost, each ends once, work goes on.

`make failovers` does the same many times.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.chaos.failovers import FAULTS, FailoverPlatform
from tests.kit.sentinels import Sentinels

pytestmark = pytest.mark.timeout(400)


async def test_no_accepted_task_is_lost_when_the_primary_fails(tmp_path: Path) -> None:
    with Sentinels(tmp_path / "store") as sentinels:
        async with FailoverPlatform(tmp_path, sentinels, seed="1") as platform:
            for fault in FAULTS:
                await platform.round(fault)
            counted = await platform.settle()
    print(counted, end=" ")
    assert counted["accepted"] > len(FAULTS)
