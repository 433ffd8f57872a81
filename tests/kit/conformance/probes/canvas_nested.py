"""Canvas inside canvas, in both orders; stamps; replacement."""

from __future__ import annotations

from typing import Any

from celery import chain, chord, group
from celery.canvas import StampingVisitor

from tests.kit.conformance.probing import LATER, WAIT, eventually, fresh, probe, raised
from tests.kit.conformance.project import states as s
from tests.kit.conformance.project import tasks as t
from tests.kit.conformance.project.notes import notes


def value_of(canvas: Any, **options: Any) -> Any:
    return canvas.apply_async(**options).get(timeout=WAIT)


def pluses() -> Any:
    """Return a group that adds one and two to what it gets."""
    return group(t.add.s(1), t.add.s(2))


@probe
def a_group_at_the_start_of_a_chain() -> Any:
    return value_of(chain(group(t.add.s(1, 1), t.add.s(2, 2)), t.tsum.s(), t.add.s(1)))


@probe
def a_group_in_the_middle_of_a_chain() -> Any:
    return value_of(chain(t.add.s(1, 1), pluses(), t.tsum.s()))


@probe
def a_group_at_the_end_of_a_chain() -> Any:
    return value_of(chain(t.add.s(1, 1), pluses()))


@probe
def two_groups_in_a_row() -> Any:
    return value_of(chain(group(t.identity.s(1), t.identity.s(2)), group(t.tsum.s(), t.pair.s("x"))))


@probe
def three_groups_in_a_row() -> Any:
    return value_of(chain(pluses(), group(t.tsum.s(), t.tsum.s()), group(t.tsum.s(), t.tsum.s())), args=(1,))


@probe
def a_chain_in_a_group() -> Any:
    return value_of(group(chain(t.add.s(1, 1), t.add.s(10)), t.add.s(2, 2)))


@probe
def a_chord_in_a_group() -> Any:
    return value_of(group(chord([t.add.s(1, 1), t.add.s(2, 2)], t.tsum.s()), t.add.s(1, 1)))


@probe
def a_chord_in_a_chain() -> Any:
    return value_of(chain(t.add.s(1, 1), chord([t.add.s(1), t.add.s(2)], t.tsum.s()), t.add.s(100)))


@probe
def a_chord_at_the_start_of_a_chain() -> Any:
    return value_of(chain(chord([t.add.s(1, 1), t.add.s(2, 2)], t.tsum.s()), t.add.s(100)))


@probe
def a_chain_as_the_body_of_a_chord() -> Any:
    return value_of(chord([t.add.s(1, 1), t.add.s(2, 2)], chain(t.tsum.s(), t.add.s(1), t.mul.s(2))))


@probe
def chains_in_the_header_of_a_chord() -> Any:
    return value_of(chord([chain(t.add.s(1, 1), t.add.s(1)), t.add.s(2, 2)], t.tsum.s()))


@probe
def groups_in_the_header_of_a_chord() -> Any:
    return value_of(chord([group(t.add.s(1, 1), t.add.s(2, 2)), t.add.s(3, 3)], t.pair.s()))


@probe
def a_chord_in_the_header_of_a_chord() -> Any:
    inner = chord([t.add.s(1, 1), t.add.s(2, 2)], t.tsum.s())
    return value_of(chord([inner, t.add.s(3, 3)], t.tsum.s()))


@probe
def a_chord_as_the_body_of_a_chord() -> Any:
    inner = chord([t.tsum.s(), t.pair.s("x")], t.pair.s("end"))
    return value_of(chord([t.add.s(1, 1), t.add.s(2, 2)], inner))


@probe
def a_group_in_a_chain_in_a_group() -> Any:
    return value_of(group(chain(t.add.s(1, 1), pluses(), t.tsum.s()), chain(t.add.s(2, 2), pluses())))


@probe
def a_group_in_a_chain_in_a_chord() -> Any:
    return value_of(chord([chain(t.add.s(1, 1), pluses())], t.pair.s()))


@probe
def a_chain_of_chains() -> Any:
    return value_of(chain(chain(t.add.s(1, 1), t.add.s(2)), chain(t.add.s(3), t.add.s(4))))


@probe
def a_group_of_chains_before_a_body() -> Any:
    return value_of(group(chain(t.add.s(n, 1), t.mul.s(2)) for n in range(3)) | t.tsum.s() | t.add.s(1))


@probe
def groups_of_groups_before_a_body() -> Any:
    return value_of(group(group(t.add.s(1, 1)), group(t.add.s(2, 2), t.add.s(3, 3))) | t.pair.s())


@probe
def a_single_task_group_in_a_chain() -> Any:
    return value_of(chain(t.add.s(1, 1), group(t.add.s(5)), t.pair.s()))


@probe
def a_chord_in_a_chord_in_a_chord() -> Any:
    deep = chord([chord([chord([t.add.s(1, 1)], t.tsum.s())], t.tsum.s())], t.tsum.s())
    return value_of(deep)


@probe
def a_chain_with_maps_and_chunks() -> Any:
    return value_of(chain(t.generates.s(4), t.pair.s()) | t.identity.s())


@probe
def the_parents_of_a_nested_canvas() -> Any:
    result = chain(t.add.s(1, 1), pluses(), t.tsum.s(), t.add.s(1)).apply_async()
    kinds = []
    while result is not None:
        kinds.append([type(result).__name__, result.get(timeout=WAIT)])
        result = result.parent
    return kinds


@probe
def as_tuple_of_a_nested_canvas() -> Any:
    return chain(t.add.s(1, 1), pluses(), t.tsum.s()).apply_async().as_tuple()


# --- stamps


class Named(StampingVisitor):
    """Gives each signature a stamp, and another one to what is a group."""

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return {"by": "visitor", "stamped_headers": ["by"]}

    def on_group_start(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return {"in_group": "yes", "stamped_headers": ["in_group"]}


def stamped(canvas: Any) -> Any:
    canvas.stamp(Named())
    return canvas


@probe
def stamps_of_a_visitor_on_a_task() -> Any:
    told = value_of(stamped(t.about.s()))
    return [told["stamps"], told["stamped_headers"]]


@probe
def stamps_of_a_visitor_on_a_chain() -> Any:
    return value_of(stamped(chain(t.add.si(1, 1), t.request_field.si("stamps"))))


@probe
def stamps_of_a_visitor_on_a_group() -> Any:
    stamps, headers = value_of(stamped(group(t.request_field.s("stamps"), t.request_field.s("stamped_headers"))))
    return [stamps, sorted(headers)]


@probe
def stamps_of_a_visitor_on_a_chord() -> Any:
    return value_of(stamped(chord([t.request_field.s("stamps"), t.add.s(1, 1)], t.pair.s())))


@probe
def stamps_on_the_body_of_a_chord() -> Any:
    return value_of(stamped(chord([t.add.s(1, 1)], t.request_field.si("stamps"))))


@probe
def stamps_reach_links() -> Any:
    key = fresh()
    call = t.add.s(1, 1)
    call.link(t.request_field.si("stamps") | t.note_last.s(key))
    stamped(call).apply_async()
    return eventually(lambda: notes(key))


@probe
def stamps_reach_a_replacement() -> Any:
    return type(raised(lambda: value_of(stamped(s.replaced.s("task"))))).__name__


@probe
def revoke_by_stamped_headers() -> Any:
    from tests.kit.conformance.project import app

    mark, key = fresh(), fresh()
    result = t.noted.s(key).stamp(batch=mark).apply_async(countdown=LATER)
    app.control.revoke_by_stamped_headers({"batch": [mark]})
    return [raised(lambda: result.get(timeout=WAIT)), notes(key)]


# --- replace and add_to_chord


@probe
def replaced_by_a_task() -> Any:
    return s.replaced.delay("task").get(timeout=WAIT)


@probe
def replaced_by_a_group() -> Any:
    return s.replaced.delay("group").get(timeout=WAIT)


@probe
def replaced_by_a_chain() -> Any:
    return s.replaced.delay("chain").get(timeout=WAIT)


@probe
def replaced_by_a_chord() -> Any:
    return s.replaced.delay("chord").get(timeout=WAIT)


@probe
def replaced_by_what_fails() -> Any:
    return raised(lambda: s.replaced.delay("failing").get(timeout=WAIT))


@probe
def replaced_twice() -> Any:
    return s.replaced.delay("again").get(timeout=WAIT)


@probe
def replaced_by_nothing() -> Any:
    return raised(lambda: s.replaced.delay("empty group").get(timeout=WAIT))


@probe
def replaced_in_a_chain() -> Any:
    return value_of(chain(s.replaced.si("task"), t.add.s(100)))


@probe
def replaced_in_a_group() -> Any:
    return value_of(group(s.replaced.s("task"), t.add.s(1, 1)))


@probe
def replaced_in_the_header_of_a_chord() -> Any:
    return value_of(chord([s.replaced.s("chain"), t.add.s(1, 1)], t.tsum.s()))


@probe
def replaced_as_the_body_of_a_chord() -> Any:
    return value_of(chord([t.add.s(1, 1)], s.replaced.si("task")))


@probe
def replaced_with_a_link() -> Any:
    key = fresh()
    s.replaced.apply_async(("task",), link=t.note_last.s(key))
    return eventually(lambda: notes(key))


@probe
def replaced_in_an_eager_call() -> Any:
    return raised(lambda: s.replaced.apply(("task",)).get())


@probe
def add_to_chord_grows_its_header() -> Any:
    (parts,), _ = value_of(chord([s.grows.s(1), t.add.s(2, 2)], t.pair.s()))
    return sorted(parts)
