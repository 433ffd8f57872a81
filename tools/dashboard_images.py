"""Take the pictures of `docs/images/` from the dashboard of a running platform with work in it.

`celeriac up` with `imports: [tests.kit.up.pages_types]` and a minute of tasks is enough. It drives the
Chromium of the machine: `python tools/dashboard_images.py http://127.0.0.1:8000`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright

FOLDER: Final = Path(__file__).parents[1] / "docs" / "images"
SIZE: Final = {"width": 1280, "height": 860}
#: What is taken: name, place in the dashboard, theme, language, and a selector that must be there.
PICTURES: Final = (
    ("dashboard-overview", "overview", "light", "en", ".chart svg"),
    ("dashboard-tasks", "tasks", "light", "en", ".list .row"),
    ("dashboard-dark", "tasks", "dark", "en", ".list .row"),
    ("dashboard-errors", "errors", "light", "en", "#main h1"),
    ("dashboard-chinese", "overview", "light", "zh", ".chart svg"),
)


def main() -> int:
    """Take all pictures, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="address of the platform, such as http://127.0.0.1:8000")
    parser.add_argument("--task", help="id of a task for dashboard-task.png")
    parser.add_argument("--limit", help="name of a limit for dashboard-limits.png")
    parser.add_argument("--workflow", help="id of a workflow for dashboard-workflow.png")
    parser.add_argument("--only", nargs="*", help="names of pictures")
    given = parser.parse_args()
    wanted = list(PICTURES)
    if given.task:
        wanted.append(("dashboard-task", f"tasks/{given.task}", "light", "en", ".task-head .status"))
    if given.limit:
        wanted.append(("dashboard-limits", f"limits/{given.limit}", "light", "en", "tbody tr"))
    if given.workflow:
        wanted.append(("dashboard-workflow", f"workflows/{given.workflow}", "light", "en", ".graph-stage .box"))
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        print("there is no Chromium on this machine: apt-get install chromium", file=sys.stderr)
        return 1
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, place, theme, language, needed in wanted:
            if given.only and name not in given.only:
                continue
            context = browser.new_context(viewport=SIZE, color_scheme=theme, locale=language)  # type: ignore[arg-type]
            page = context.new_page()
            page.goto(f"{given.url.rstrip('/')}/dashboard#/{place}")
            page.locator(".link-state[data-state=live]").wait_for()
            page.locator(needed).first.wait_for()
            page.wait_for_timeout(1500)
            page.screenshot(path=FOLDER / f"{name}.png")
            print(f"{name}.png")
            context.close()
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
