"""Every action that the pages offer has a test: a walk finds the controls, a table names the test of each.

A control that is new fails the walk, until there is a test that uses it and the table names it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Final

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.kit.command_line import REPOSITORY
from tests.kit.pages.things import make_things
from tests.kit.pages.walk import controls, settle, unanswered
from tests.kit.up.browser import watched_page
from tests.kit.up.pages_platform import pages_platform

expect.set_options(timeout=30_000)

Step = Callable[[Page], object]


def button(name: str) -> Step:
    return lambda page: page.get_by_role("button", name=name, exact=True).first.click()


def press(key: str) -> Step:
    return lambda page: page.keyboard.press(key)


def choose(label: str, *options: str) -> tuple[Step, ...]:
    def one(option: str) -> Step:
        return lambda page: page.get_by_role("dialog").get_by_label(label).first.select_option(option)

    return tuple(one(option) for option in options)


def narrow(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})


def connect(page: Page) -> None:
    page.get_by_label("Group").fill("walked")
    page.get_by_role("button", name="Connect").click()


def give_itself_a_task(page: Page) -> None:
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(".task:not(.ended)")).to_be_visible()


#: Where the walk looks: what the place is called, its address, and what is done there, with a look after each step.
WALK: Final[tuple[tuple[str, str, tuple[Step, ...]], ...]] = (
    ("overview", "#/overview", ()),
    ("tasks", "#/tasks", (press("j"), press("x"))),
    ("tasks", "#/tasks?tag=nothing-has-it", ()),
    ("tasks", "#/tasks?q=status:failed", ()),
    ("tasks", "#/tasks", (narrow,)),
    ("errors", "#/errors", ()),
    ("types", "#/types", ()),
    ("type", "#/types/card.charge", ()),
    ("workflows", "#/workflows", ()),
    ("workflows", "#/workflows?name=nothing", ()),
    ("waits", "#/waits", ()),
    ("requests", "#/requests", ()),
    ("groups", "#/groups", ()),
    ("groups", "#/groups", (narrow,)),
    ("limits", "#/limits", ()),
    ("limit", "#/limits/per-customer", ()),
    ("workers", "#/workers", ()),
    ("drain a worker", "#/workers", (button("Drain"),)),
    ("definitions", "#/definitions", ()),
    ("definition", "#/definitions/{definition}", ()),
    *(("task", f"#/tasks/{{{one}}}", ()) for one in ("failed", "running", "scheduled", "asking", "completed")),
    *(("task", f"#/tasks/{{{one}}}", ()) for one in ("flaky", "noisy", "large", "chat", "file", "parked")),
    ("workflow", "#/workflows/{workflow}", ()),
    ("workflow", "#/workflows/{running_workflow}", ()),
    ("new task", "#/tasks", (button("New task"), *choose("Type", "mail.send"), button("Form"))),
    ("new definition", "#/definitions", (button("New definition"), *choose("When", "every", "cron", "once"))),
    ("actions of a definition", "#/definitions", (button("Actions of nightly"),)),
    ("actions of a definition", "#/definitions", (button("Actions of paused"),)),
    ("new rule", "#/limits", (button("New rule"), *choose("Count", "key"))),
    ("limit a group", "#/groups", (button("Limit"),)),
    ("pause a group", "#/groups", (button("Pause"),)),
    ("edit and retry", "#/tasks/{failed}", (button("Edit and retry"),)),
    ("run again", "#/tasks/{completed}", (button("Run again"),)),
    ("confirm", "#/tasks/{running}", (button("Cancel task"),)),
    ("keys", "#/overview", (press("?"),)),
    ("palette", "#/overview", (press("Control+k"),)),
    ("reference", "/docs", (lambda page: page.locator("details.route summary").first.click(),)),
    ("test worker", "/test-worker", (connect, give_itself_a_task)),
)

#: Places with steps that open no dialog or menu.
WHOLE: Final = ("tasks", "groups", "reference", "test worker")

#: Tests of several controls.
_FRAME: Final = "test_the_switches_of_the_frame"
_OVERVIEW: Final = "test_the_overview_shows_other_spans_and_divisions"
_CHOSEN: Final = "test_tasks_are_chosen_by_status_group_user_tag_and_time"
_ERRORS: Final = "test_errors_are_chosen_by_time_type_group_and_user_and_more_are_shown"
_TYPES: Final = "test_types_show_other_spans_and_begin_tasks"
_WORKFLOWS: Final = "test_workflows_are_chosen_by_status_and_name"
_WORKFLOW: Final = "test_a_workflow_is_zoomed_unfolded_searched_and_copied"
_WAITS: Final = "test_more_questions_than_a_page_are_shown_when_asked_for"
_COPIED: Final = "test_what_a_task_has_is_copied"
_COPY_AS: Final = "test_a_task_is_copied_as_curl_as_python_and_as_a_command"
_ORDER: Final = "test_a_rule_is_made_that_keeps_the_order"
_DEFINED: Final = "test_a_definition_is_made_with_a_form_for_a_user"
_RULE: Final = "test_a_rule_is_made_changed_and_deleted"
_FORM: Final = "test_a_task_is_written_in_a_form_and_copied"
_REFERENCE: Final = "test_the_reference_is_searched_and_copied_from"
_AS_A_MODEL: Final = "test_a_person_answers_as_a_model_part_by_part"
_SWITCHES: Final = "test_the_test_worker_has_the_switches_of_the_dashboard_and_takes_a_token"
_ANSWERS: Final = "test_a_person_answers_who_waits"
_FAILS: Final = "test_a_person_fails_a_task_and_sees_one_taken_back"
_ALONE: Final = "test_it_gives_itself_a_task_and_fits_a_phone_in_the_dark"
_IN_ORDER: Final = "One task of a key at a time, in the order of submission"

#: Place → control → the test that uses it and looks at what follows.
ACTIONS: Final[dict[str, dict[str, str]]] = {
    "frame": {
        "Go to or do": "test_the_palette_fits_a_phone",
        **dict.fromkeys(("Language: English", "Language: 中文", "Light or dark", "Shortcuts"), _FRAME),
        **dict.fromkeys(("Times: Local", "Times: Relative"), _FRAME),
        "Times: UTC": "test_the_switch_draws_times_again_and_is_kept",
    },
    "overview": {
        **dict.fromkeys(("Divided by: Group", "Divided by: Outcome"), _OVERVIEW),
        "Divided by: Type": "test_the_overview_has_the_types_and_its_charts_lead_to_tasks",
        "New task": "test_a_task_is_submitted_by_hand",
        **dict.fromkeys(("Time span: d", "Time span: h", "Time span: m"), _OVERVIEW),
    },
    "tasks": {
        "Drag to choose a span of time": "test_tabs_count_and_the_histogram_chooses_a_time",
        "Filters": "test_tasks_are_filtered_on_a_phone",
        **dict.fromkeys(("Group", "Submitted", "Tag", "Type", "User"), _CHOSEN),
        "Key": "test_tasks_are_found_by_their_key",
        "Remove status:failed": "test_conditions_of_the_search_are_chips_that_a_click_removes",
        "New task": "test_a_task_is_submitted_by_hand",
        "Search": "test_the_search_field_suggests_and_says_what_is_wrong",
        "Select the loaded tasks": "test_ended_tasks_run_again",
        "Selected tasks: Cancel": "test_rows_are_selected_by_key_click_and_range_and_cancelled",
        "Selected tasks: Clear": "test_all_that_match_are_cancelled_and_retried",
        "Selected tasks: Copy ids": "test_rows_are_selected_by_key_click_and_range_and_cancelled",
        "Selected tasks: Retry": "test_selected_tasks_are_retried",
        "Selected tasks: Run again": "test_ended_tasks_run_again",
        "Selected tasks: Select all  that match": "test_all_that_match_are_cancelled_and_retried",
        "Show all tasks": "test_tasks_are_filtered_and_the_address_keeps_the_filter",
        "Status: All": _CHOSEN,
        **dict.fromkeys((f"Status: {one}" for one in ("Pending", "Processing", "Waiting", "Scheduled")), _CHOSEN),
        **dict.fromkeys((f"Status: {one}" for one in ("Retrying", "Completed", "Failed", "Cancelled")), _CHOSEN),
        "Tasks": "test_everything_is_within_reach_of_the_keyboard",
    },
    "errors": {
        **dict.fromkeys(("Every failed task", "Group", "Order: Latest", "Order: Most frequent"), _ERRORS),
        **dict.fromkeys(("Time span: days", "Time span: hour", "Time span: hours", "Type", "User"), _ERRORS),
        "Example": "test_an_example_and_the_tasks_of_an_error_are_a_click_away",
        "Key": "test_errors_are_filtered_and_the_address_keeps_the_filter",
        "Retry": "test_failures_that_are_alike_are_one_line_and_are_retried_by_their_number",
        "Retry all of these": "test_all_dead_letters_that_match_are_retried_at_once",
        "Show tasks": "test_an_example_and_the_tasks_of_an_error_are_a_click_away",
        "Words of the message or the code": "test_errors_are_chosen_by_their_words",
    },
    "types": {
        "Name of a type": "test_types_show_other_spans_and_begin_tasks",
        "New task": "test_types_show_other_spans_and_begin_tasks",
        **dict.fromkeys(("Time span: days", "Time span: hour", "Time span: hours"), _TYPES),
    },
    "type": {
        "New task": _TYPES,
        **dict.fromkeys(("Time span: days", "Time span: hour", "Time span: hours"), _TYPES),
    },
    "workflows": {
        "Name": _WORKFLOWS,
        "Show all workflows": "test_workflows_are_listed_with_how_far_they_are",
        **dict.fromkeys(
            (f"Status: {one}" for one in ("All", "Cancelled", "Completed", "Failed", "Running")), _WORKFLOWS
        ),
        "Workflows": "test_the_rows_of_workflows_are_reached_by_the_keyboard",
    },
    "waits": dict.fromkeys(("Answer", "Note (optional)", "Pay it back"), _WAITS),
    "requests": dict.fromkeys(
        (f"Status: {one}" for one in ("All", "Completed", "Failed", "Running", "Waiting")),
        "test_requests_are_chosen_by_how_far_they_are",
    ),
    "groups": {
        "Copy the command": "test_groups_are_paused_and_limited_on_a_phone",
        "Limit": "test_a_group_is_limited_and_lifted",
        "Pause": "test_a_group_is_paused_and_goes_on",
        "Resume": "test_a_group_is_paused_and_goes_on",
    },
    "limits": {
        "Delete per-customer": "test_a_rule_is_made_changed_and_deleted",
        "Edit per-customer": "test_a_rule_is_made_changed_and_deleted",
        "New rule": "test_a_rule_is_made_changed_and_deleted",
    },
    "limit": {
        **dict.fromkeys(("Copy the command", "Edit", "Its tasks"), _ORDER),
        "Delete": "test_a_rule_names_the_keys_with_most_tasks_and_leads_to_them",
        **dict.fromkeys(("Sort by: Most running", "Sort by: Most waiting"), _ORDER),
    },
    "workers": {"Drain": "test_a_worker_shows_its_figures_and_is_drained_and_resumed"},
    "definitions": {
        "Actions of nightly": "test_a_definition_is_created_and_run_paused_resumed_and_cancelled",
        "Actions of paused": "test_a_definition_is_created_and_run_paused_resumed_and_cancelled",
        "New definition": "test_a_definition_is_created_and_run_paused_resumed_and_cancelled",
    },
    "definition": {"Actions of nightly": "test_a_definition_is_created_and_run_paused_resumed_and_cancelled"},
    "task": {
        "All events with exact times": "test_a_task_is_watched_from_its_progress_to_its_result",
        "Answer": "test_a_handler_asks_and_runs_again_from_one_of_its_steps",
        "Note (optional)": _WAITS,
        "Pay it back": "test_a_handler_asks_and_runs_again_from_one_of_its_steps",
        "As JSON": "test_a_chat_is_shown_as_messages_with_its_tokens",
        "Cancel task": "test_a_running_task_is_cancelled_once_that_is_confirmed",
        **dict.fromkeys(("Copy", "Copy the command", "Copy the id"), _COPIED),
        "Copy the link": "test_a_task_is_copied_as_curl_as_python_and_as_a_command",
        **dict.fromkeys((f"Copy as: {one}" for one in ("Python", "celeriac", "curl")), _COPY_AS),
        "Download": "test_the_log_is_searched_filtered_wrapped_linked_and_downloaded",
        "Edit and retry": "test_a_dead_letter_runs_again_with_another_payload",
        "Original": "test_the_original_of_a_file_is_downloaded",
        "Resume": "test_a_paused_group_is_resumed_where_its_task_says_why_it_waits",
        "Retry": "test_a_failed_task_is_retried_as_it_is",
        "Retry from here": "test_a_handler_asks_and_runs_again_from_one_of_its_steps",
        "Run again": "test_a_completed_task_runs_again_as_a_new_one",
        "Run now": "test_a_task_that_waits_for_its_time_runs_now",
        "Same traceback as in attempt": "test_identical_tracebacks_are_folded_and_the_first_one_is_on_top",
        "Search in the value": "test_what_is_long_is_shown_on_demand",
        "Search the log": "test_what_a_task_has_is_copied",
        "Show  more": "test_what_is_long_is_shown_on_demand",
        "Tasks around this one": "test_the_tasks_around_one_are_reached_by_the_keyboard",
        "Whole workflow": "test_a_task_shows_what_is_around_it",
        "Wrap": "test_the_log_is_searched_filtered_wrapped_linked_and_downloaded",
        "a value": "test_what_is_long_is_shown_on_demand",
        **dict.fromkeys(("error", "info", "warning"), _COPIED),
    },
    "workflow": {
        "Cancel workflow": "test_a_workflow_is_cancelled_once_that_is_confirmed",
        **dict.fromkeys(
            ("Copy the id", "Larger", "Search", "Show the whole graph", "Smaller", "Unfold all"), _WORKFLOW
        ),
        "Graph of the workflow": "test_a_graph_is_within_reach_of_the_keyboard",
        "Nodes": "test_the_rows_of_workflows_are_reached_by_the_keyboard",
        "Retry": "test_a_failed_workflow_runs_again",
        **dict.fromkeys((f"Status: {one}" for one in ("All", "Cancelled", "Completed")), _WORKFLOW),
        **dict.fromkeys((f"Status: {one}" for one in ("Failed", "Processing")), _WORKFLOW),
    },
    "new task": {
        "Cancel": "test_forms_are_left_without_a_trace",
        **dict.fromkeys(("Copy as: Python", "Copy as: celeriac", "Copy as: curl"), _FORM),
        "Delay (30s, 10m, 1h)": "test_a_task_is_submitted_by_hand",
        "Group": "test_a_task_is_submitted_by_hand",
        "How to write it: Form": "test_a_task_is_duplicated_in_the_form_for_a_new_one",
        "How to write it: JSON": "test_a_task_is_duplicated_in_the_form_for_a_new_one",
        "Key, such as a customer (optional)": "test_a_new_task_is_given_a_key",
        "Payload, as JSON": "test_a_task_is_submitted_by_hand",
        **dict.fromkeys(("Subject (optional)", "Tags (optional)", "To"), _FORM),
        "Submit": "test_a_task_is_submitted_by_hand",
        "Type": "test_a_task_is_submitted_by_hand",
    },
    "new definition": {
        **dict.fromkeys(("Amount", "Card", "User", "How to write it: Form", "How to write it: JSON"), _DEFINED),
        "Cancel": "test_forms_are_left_without_a_trace",
        "Create": "test_a_definition_by_interval_and_one_for_a_moment",
        "Cron rule": "test_a_definition_is_created_and_run_paused_resumed_and_cancelled",
        "How many": "test_a_definition_by_interval_and_one_for_a_moment",
        "Name": "test_a_definition_by_interval_and_one_for_a_moment",
        "Time zone": "test_a_definition_is_created_and_run_paused_resumed_and_cancelled",
        "Time, by the clock of this browser": "test_a_definition_by_interval_and_one_for_a_moment",
        "Type": "test_a_definition_by_interval_and_one_for_a_moment",
        "Unit": "test_a_definition_by_interval_and_one_for_a_moment",
        "When": "test_a_definition_by_interval_and_one_for_a_moment",
    },
    "actions of a definition": dict.fromkeys(
        ("Cancel", "Edit", "Pause", "Resume", "Run now"), "test_definitions_are_changed_on_a_phone"
    ),
    "new rule": {
        "Cancel": "test_forms_are_left_without_a_trace",
        **dict.fromkeys(("Copy the command", "Type", _IN_ORDER), _ORDER),
        **dict.fromkeys(("Count", "Create", "Group", "Name", "Note for other operators (optional)"), _RULE),
        **dict.fromkeys(("Running at once", "Starts per time", "The keys of a group take turns"), _RULE),
        "Waiting tasks of one key (more are refused)": _RULE,
    },
    "limit a group": {
        "Keep as it is": "test_dialogs_are_left_as_it_is",
        "Note for other operators (optional)": "test_a_group_is_limited_and_lifted",
        "Running at once": "test_a_group_is_limited_and_lifted",
        "Set": "test_a_group_is_limited_and_lifted",
        "Starts per time": "test_a_group_is_limited_and_lifted",
    },
    "pause a group": {
        "Keep as it is": "test_dialogs_are_left_as_it_is",
        "Note for other operators (optional)": "test_a_group_is_paused_and_goes_on",
        "Pause": "test_a_group_is_paused_and_goes_on",
    },
    "edit and retry": {
        "Keep as it is": "test_dialogs_are_left_as_it_is",
        "Payload": "test_a_dead_letter_runs_again_with_another_payload",
        "Retry with this payload": "test_a_dead_letter_runs_again_with_another_payload",
    },
    "run again": {
        "Keep as it is": "test_dialogs_are_left_as_it_is",
        "Payload": "test_a_completed_task_runs_again_as_a_new_one",
        "Run again": "test_a_completed_task_runs_again_as_a_new_one",
    },
    "confirm": {
        "Cancel task": "test_a_running_task_is_cancelled_once_that_is_confirmed",
        "Keep as it is": "test_a_running_task_is_cancelled_once_that_is_confirmed",
    },
    "drain a worker": {
        "Drain": "test_a_worker_shows_its_figures_and_is_drained_and_resumed",
        "Keep as it is": "test_a_running_task_is_cancelled_once_that_is_confirmed",
    },
    "keys": {"Close": _FRAME},
    "palette": {
        "Go to or do": "test_the_palette_fits_a_phone",
        "Results": "test_the_results_of_the_palette_are_pressed",
    },
    "reference": dict.fromkeys(
        ("Copy", "Find a route", "Language: English", "Language: 中文", "Light or dark", "a route"), _REFERENCE
    ),
    "test worker": {
        **dict.fromkeys(("Clear", "Data, as JSON", "Group", "Models", "Tasks at once"), _AS_A_MODEL),
        **dict.fromkeys(("Tasks: Part of the result", "Tasks: Progress message", "Tasks: Send part"), _AS_A_MODEL),
        **dict.fromkeys(("Dashboard", "Language: English", "Language: 中文", "Light or dark", "Token"), _SWITCHES),
        **dict.fromkeys(("Disconnect", "Tasks: Another attempt may help", "Tasks: Error"), _FAILS),
        "Tasks: Fail": _FAILS,
        **dict.fromkeys(("Tasks: Complete", "Tasks: Progress", "Tasks: Result, as JSON", "a message"), _ANSWERS),
        "Connect": _SWITCHES,
        "Answer automatically with the data that was sent": _ALONE,
        "Submit": _ALONE,
    },
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a platform with a worker."""
    with pages_platform(tmp_path_factory.mktemp("actions"), "tests.kit.up.task_page_types") as address:
        yield address


@pytest.fixture(scope="module")
def things(api: httpx.Client) -> dict[str, str]:
    return make_things(api)


def walk(browser: Browser, url: str, things: dict[str, str]) -> dict[str, set[str]]:
    """Return the controls of each place, and those of the frame around them."""
    found: dict[str, set[str]] = {"frame": set()}
    last = {name: place for place, (name, _, _) in enumerate(WALK)}
    with watched_page(browser, url) as page:
        asked = unanswered(page)
        for place, (name, address, steps) in enumerate(WALK):
            frame = address.startswith("#")
            page.set_viewport_size({"width": 1280, "height": 800})
            # A dialog that the last place has left open goes away with its page.
            page.goto("about:blank")
            page.goto(f"/dashboard{address.format(**things)}" if frame else address)
            expect(page.locator("h1").first).to_be_visible()
            settle(page, asked=asked)
            seen = found.setdefault(name, set())
            if frame:
                found["frame"] |= controls(page, "#nav")
            whole = not steps or name in WHOLE
            if whole:
                seen |= controls(page, "#main" if frame else "body")
            for step in steps:
                step(page)
                if not whole:
                    expect(page.locator("dialog[open], [popover]:popover-open").first).to_be_visible()
                settle(page, looks=2, asked=asked)
                seen |= controls(page, "#main")
            # A slow answer may have left a part of the page empty.
            for _ in range(40):
                if place < last[name] or not ACTIONS[name].keys() - seen:
                    break
                page.wait_for_timeout(250)
                seen |= controls(page, "#main" if frame else "body")
    return found


def test_every_action_of_the_pages_has_a_test(browser: Browser, url: str, things: dict[str, str]) -> None:
    found = walk(browser, url, things)
    new = {place: sorted(names - ACTIONS[place].keys()) for place, names in found.items()}
    assert not any(new.values()), f"write a test for each of these, and name it in ACTIONS: {new}"
    gone = {place: sorted(names.keys() - found[place]) for place, names in ACTIONS.items()}
    assert not any(gone.values()), f"the walk does not find these any more: {gone}"


def test_the_tests_that_are_named_use_the_actions() -> None:
    texts: dict[str, str] = {}
    for file in (REPOSITORY / "tests/e2e").glob("test_pages*.py"):
        source = file.read_text()
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                texts[node.name] = ast.get_source_segment(source, node) or ""
    for place, names in ACTIONS.items():
        for name, test in names.items():
            assert test in texts, f"{place}: {name} names the test {test}, which does not exist"
            # The name of the control, or the first word of it.
            word = name.rpartition(": ")[2].split()[0].strip("(,")
            assert word in texts[test], f"{place}: {test} does not use {name}"
