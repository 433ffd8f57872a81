"""A user's browser follows a program that reports its own work: no worker, no Celery in between."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from tests.kit.command_line import REPOSITORY
from tests.kit.up.browser import running_browser, watched_page
from tests.kit.up.running_up import RunningUp

#: Resolves when the client is connected, and leaves a promise of all that will be told until the task has ended.
WATCH = """async ([token]) => {
  const { NotificationClient } = await import('/dashboard/static/notifications-client/celeriac-notifications.js');
  const told = [];
  const client = new NotificationClient(location.origin, 7, { token });
  window.told = new Promise((resolve) => {
    client.on('error', (error) => resolve([error]));
    client.on('task', (task) => {
      told.push(task);
      if (task.status === 'completed') resolve(told);
    });
  });
  const open = new Promise((resolve) => client.on('active', resolve));
  client.connect();
  await open;
}"""


def test_a_browser_is_told_what_a_program_reports(tmp_path: Path) -> None:
    environment = {**os.environ, "CELERIAC_DATA_DIR": str(tmp_path / "data")}
    with RunningUp(tmp_path / "data") as up:
        asyncio.run(up.ready())
        minted = subprocess.run(
            [sys.executable, "-m", "celeriac", "token", "--user", "7"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        url = up.run_json["http"]
        with running_browser() as browser, watched_page(browser, url) as page:
            page.goto(f"{url}/dashboard")
            page.evaluate(WATCH, [minted.stdout.strip()])
            program = subprocess.Popen(
                [sys.executable, str(REPOSITORY / "examples/notifications/interview.py")], cwd=tmp_path, env=environment
            )
            told = page.evaluate("window.told")
            assert program.wait(timeout=30) == 0
        asyncio.run(up.stop())
    assert [task["status"] for task in told] == ["pending", "running", *["progress"] * 10, "completed"]
    assert (told[4]["step"], told[4]["progress"], told[4]["message"]) == ("Step 3/10", 30, "asked for the city")
    assert told[-1]["result"] == {"answers": 10}
