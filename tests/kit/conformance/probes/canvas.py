"""Canvas: groups, chains, chords, chunks, maps, each by itself."""

from __future__ import annotations

from typing import Any

from celery import chain, chord, chunks, group, signature, xmap, xstarmap

from tests.kit.conformance.probing import WAIT, eventually, fresh, probe, raised
from tests.kit.conformance.project import app
from tests.kit.conformance.project import tasks as t
from tests.kit.conformance.project.notes import notes


def value_of(canvas: Any, **options: Any) -> Any:
    return canvas.apply_async(**options).get(timeout=WAIT)


@probe
def a_chain() -> Any:
    return value_of(chain(t.add.s(1, 2), t.add.s(10), t.mul.s(2)))


@probe
def a_chain_by_bars() -> Any:
    return value_of(t.add.s(1, 2) | t.add.s(10) | t.mul.s(2))


@probe
def a_chain_that_is_called() -> Any:
    return chain(t.add.s(1, 2), t.add.s(10))().get(timeout=WAIT)


@probe
def a_chain_with_immutable_links() -> Any:
    return value_of(chain(t.add.s(1, 2), t.add.si(5, 5), t.pair.s("end")))


@probe
def a_chain_with_partial_arguments() -> Any:
    return chain(t.pair.s(2), t.pair.s(3)).apply_async(args=(1,), kwargs={"k": 4}).get(timeout=WAIT)


@probe
def a_chain_of_one() -> Any:
    return [value_of(chain(t.add.s(1, 2))), type(chain(t.add.s(1, 2)).apply_async()).__name__]


@probe
def an_empty_chain() -> Any:
    return raised(lambda: chain().apply_async())


@probe
def a_chain_with_options() -> Any:
    chosen = fresh()
    result = chain(t.add.s(1, 2), t.request_field.si("id")).apply_async(task_id=chosen, queue="side")
    return [result.id == chosen, result.get(timeout=WAIT) == chosen]


@probe
def a_chain_with_a_countdown() -> Any:
    return value_of(chain(t.add.s(1, 2), t.add.s(3)), countdown=0.5)


@probe
def a_long_chain() -> Any:
    # Each link waits behind all that is in its queue.
    return value_of(chain(t.add.s(0, 0), *(t.add.s(1) for _ in range(15))), queue="side")


@probe
def what_a_chain_tells_its_links() -> Any:
    result = chain(t.ancestors.si(), t.ancestors.si()).apply_async()
    root, parent = result.get(timeout=WAIT)
    return [root == result.parent.id, parent == result.parent.id]


@probe
def a_chain_in_a_request() -> Any:
    result = chain(t.about.si(), t.add.si(1, 1), t.mul.si(2, 2)).apply_async()
    result.get(timeout=WAIT)
    return result.parent.parent.get(timeout=WAIT)["chain"]


@probe
def a_group() -> Any:
    return value_of(group(t.add.s(n, n) for n in range(5)))


@probe
def a_group_of_one() -> Any:
    result = group(t.add.s(1, 1)).apply_async()
    return [type(result).__name__, result.get(timeout=WAIT)]


@probe
def an_empty_group() -> Any:
    result = group().apply_async()
    return [type(result).__name__, result.get(timeout=1), len(result)]


@probe
def a_group_with_partial_arguments() -> Any:
    return group(t.add.s(), t.mul.s()).apply_async(args=(3, 4)).get(timeout=WAIT)


@probe
def a_group_that_is_called_with_arguments() -> Any:
    return group([t.add.s(10), t.mul.s(10)])(2).get(timeout=WAIT)


@probe
def a_group_of_groups() -> Any:
    return value_of(group(group(t.add.s(1, 1), t.add.s(2, 2)), t.add.s(3, 3)))


@probe
def a_group_with_a_countdown() -> Any:
    return value_of(group(t.add.s(n, 1) for n in range(3)), countdown=0.5)


@probe
def a_group_on_a_queue() -> Any:
    return (
        group(t.request_field.s("delivery_info"), t.add.s(1, 1))
        .apply_async(queue="side")
        .get(timeout=WAIT)[0]["routing_key"]
    )


@probe
def a_group_with_a_skew() -> Any:
    return value_of(group(t.add.s(n, 1) for n in range(3)).skew(start=0, stop=0.3, step=0.1))


@probe
def a_chord() -> Any:
    return value_of(chord([t.add.s(n, n) for n in range(5)], t.tsum.s()))


@probe
def a_chord_that_is_called_with_its_body() -> Any:
    return chord(t.add.s(n, n) for n in range(5))(t.tsum.s()).get(timeout=WAIT)


@probe
def a_chord_by_bars() -> Any:
    return value_of(group(t.add.s(n, n) for n in range(3)) | t.tsum.s())


@probe
def a_chord_of_one() -> Any:
    return value_of(chord([t.add.s(1, 2)], t.tsum.s()))


@probe
def a_chord_of_none() -> Any:
    return [value_of(chord([], t.tsum.s())), chord([])(t.tsum.s()).get(timeout=WAIT)]


@probe
def a_group_of_none_before_a_task() -> Any:
    return value_of(group([]) | t.tsum.s())


@probe
def a_chord_with_an_immutable_body() -> Any:
    return value_of(chord([t.add.s(1, 1), t.add.s(2, 2)], t.add.si(5, 5)))


@probe
def a_chord_with_a_generator() -> Any:
    return value_of(chord((t.add.s(n, 1) for n in range(4)), t.pair.s("x")))


@probe
def a_chord_whose_header_is_a_group() -> Any:
    return value_of(chord(group(t.add.s(n, 1) for n in range(3)), t.tsum.s()))


@probe
def a_chord_with_options_of_the_body() -> Any:
    chosen = fresh()
    result = chord([t.add.s(1, 1), t.add.s(2, 2)], t.request_field.si("id").set(task_id=chosen)).apply_async()
    return [result.id == chosen, result.get(timeout=WAIT) == chosen]


@probe
def the_results_of_a_chord() -> Any:
    result = chord([t.add.s(1, 1), t.add.s(2, 2)], t.tsum.s()).apply_async()
    return [result.get(timeout=WAIT), type(result.parent).__name__, result.parent.get(timeout=WAIT)]


@probe
def what_a_chord_tells_its_tasks() -> Any:
    result = chord([t.about.s(), t.about.s()], t.pair.s()).apply_async()
    (headers,), _ = result.get(timeout=WAIT)
    return [[one["chord"], one["group"], one["root"], one["parent"]] for one in headers]


@probe
def the_order_of_a_chords_results() -> Any:
    key = fresh()
    header = [t.busy.si(0.6) | t.identity.si("slow"), t.identity.s("quick"), t.noted.s(key, "last")]
    return value_of(chord(header, t.pair.s()))


@probe
def a_chord_that_takes_longer_than_a_second() -> Any:
    return value_of(chord([t.busy.s(1.5), t.add.s(1, 1)], t.pair.s()))


@probe
def a_chord_on_a_queue() -> Any:
    return value_of(chord([t.add.s(1, 1), t.add.s(2, 2)], t.tsum.s()), queue="side")


@probe
def a_chord_with_an_interval_and_retries() -> Any:
    return chord([t.add.s(1, 1)], t.tsum.s(), interval=1, max_retries=5).apply_async().get(timeout=WAIT)


@probe
def a_chord_with_a_group_as_body() -> Any:
    return value_of(chord([t.add.s(1, 1), t.add.s(2, 2)], group(t.pair.s("a"), t.tsum.s())))


@probe
def chunks_of_work() -> Any:
    return t.add.chunks(zip(range(6), range(6), strict=True), 2)().get(timeout=WAIT)


@probe
def chunks_as_a_group() -> Any:
    return value_of(chunks(t.add.s(), [(n, 1) for n in range(5)], 2).group())


@probe
def a_map() -> Any:
    return [t.add.map([1, 2, 3]).apply_async().get(timeout=WAIT), xmap(t.add.s(), [4, 5])().__class__.__name__]


@probe
def a_starmap() -> Any:
    return [t.add.starmap([(1, 2), (3, 4)]).apply_async().get(timeout=WAIT), value_of(xstarmap(t.mul.s(), [(2, 3)]))]


@probe
def a_map_in_a_chain() -> Any:
    return value_of(chain(t.add.map([1, 2]), t.tsum.s()))


@probe
def partials() -> Any:
    one = t.add.s(2)
    two = t.pair.s(1, a=1).clone(args=(0,), kwargs={"b": 2})
    three = t.add.s(1, 2).set(queue="side", countdown=0.1)
    four = t.pair.signature((1,), {"k": 2}, immutable=True, queue="side")
    return [
        one.delay(3).get(timeout=WAIT),
        value_of(two),
        value_of(three),
        value_of(four, args=(9,)),
        one(4),
        (~t.add.s(1, 1)),
    ]


@probe
def a_signature_as_json_and_back() -> Any:
    import json

    kept = json.dumps(chain(t.add.s(1, 2), group(t.add.s(1), t.add.s(2)), t.tsum.s()))
    return value_of(signature(json.loads(kept), app=app))


@probe
def what_freeze_fixes() -> Any:
    call = t.request_field.s("id")
    frozen = call.freeze()
    result = call.apply_async()
    return [frozen.id == result.id, result.get(timeout=WAIT) == frozen.id]


@probe
def an_eager_canvas() -> Any:
    return [
        chain(t.add.s(1, 2), t.add.s(10)).apply().get(),
        group(t.add.s(1, 1), t.add.s(2, 2)).apply().get(),
        chord([t.add.s(1, 1), t.add.s(2, 2)], t.tsum.s()).apply().get(),
        t.add.map([1, 2]).apply().get(),
    ]


@probe
def link_of_a_chain() -> Any:
    key = fresh()
    chain(t.add.s(1, 2), t.add.s(3)).apply_async(link=t.note_last.s(key))
    return eventually(lambda: notes(key))


@probe
def link_of_a_group() -> Any:
    key = fresh()
    group(t.add.s(1, 2), t.add.s(3, 4)).apply_async(link=t.note_last.s(key))
    return eventually(lambda: notes(key))


@probe
def link_of_a_chord() -> Any:
    key = fresh()
    chord([t.add.s(1, 2), t.add.s(3, 4)], t.tsum.s()).apply_async(link=t.note_last.s(key))
    return eventually(lambda: notes(key))


@probe
def a_link_that_is_a_chain() -> Any:
    key = fresh()
    t.add.apply_async((1, 2), link=chain(t.add.s(10), t.note_last.s(key)))
    return eventually(lambda: notes(key))


@probe
def a_link_that_is_a_group() -> Any:
    one, other = fresh(), fresh()
    t.add.apply_async((1, 2), link=group(t.note_last.s(one), t.note_last.s(other)))
    return [eventually(lambda: notes(one)), eventually(lambda: notes(other))]


@probe
def a_link_that_is_a_chord() -> Any:
    key = fresh()
    t.add.apply_async((1, 2), link=chord([t.add.s(1), t.add.s(2)], t.note_last.s(key)))
    return eventually(lambda: notes(key))
