"""The OpenAI routes, by the stock `openai` package."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from celeriac.access.principal import Scope
from celeriac.settings import Settings
from tests.kit.api.http_serving import serving
from tests.kit.remote.remote_workers import Worker, worker
from tests.kit.tokens import token_of
from tests.kit.waiting import eventually

HELLO: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def url(valkey_url: str) -> AsyncIterator[str]:
    async with serving(Settings.model_validate({"redis_url": valkey_url, "sse_keepalive": "100ms"})) as address:
        yield address


@pytest.fixture
async def client(url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as stock:
        yield stock


async def answer(one: Worker, result: Any) -> dict[str, Any]:
    task = await one.take()
    await one.say(type="task_complete", taskId=task["taskId"], result=result)
    payload: dict[str, Any] = task["payload"]
    return payload


@pytest.mark.parametrize(
    "result",
    [
        "hi",
        {"content": "hi"},
        {"message": {"role": "assistant", "content": "hi"}},
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]},
    ],
)
async def test_a_result_of_any_common_shape_is_the_message(url: str, client: AsyncOpenAI, result: Any) -> None:
    async with worker(url) as one:
        asking = asyncio.create_task(client.chat.completions.create(model="m", messages=HELLO, temperature=0.5))
        assert await answer(one, result) == {"model": "m", "messages": HELLO, "parameters": {"temperature": 0.5}}
        completion = await asking
        assert completion.object == "chat.completion"
        assert completion.choices[0].message.content == "hi"
        assert completion.choices[0].finish_reason == "stop"


async def test_partial_results_become_the_chunks_of_a_stream(url: str, client: AsyncOpenAI) -> None:
    async with worker(url) as one:
        stream = asyncio.create_task(
            client.chat.completions.create(
                model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}
            )
        )
        task = await one.take()
        for content in ("one ", "two "):
            await one.say(type="delta", taskId=task["taskId"], content=content)
        chunks = aiter(await stream)
        said = [(await anext(chunks)).choices[0].delta.content for _ in range(2)]
        usage = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
        await one.say(type="task_complete", taskId=task["taskId"], result={"content": "one two three", "usage": usage})
        rest = [chunk async for chunk in chunks]
        said += [chunk.choices[0].delta.content for chunk in rest if chunk.choices]
        assert said == ["one ", "two ", "three", None]
        assert rest[-2].choices[0].finish_reason == "stop"
        assert rest[-1].usage is not None
        assert rest[-1].usage.total_tokens == 4


async def test_a_stream_is_of_one_run_also_where_the_task_was_given_back(valkey_url: str) -> None:
    settings = Settings.model_validate({"redis_url": valkey_url, "dispatch": {"drain_grace": 0.1}})
    async with AsyncExitStack() as first, serving(settings) as second:
        client = await first.enter_async_context(AsyncOpenAI(base_url=f"{second}/v1", api_key="none", max_retries=0))
        async with AsyncExitStack() as going, worker(await going.enter_async_context(serving(settings))) as leaving:
            asking = asyncio.create_task(client.chat.completions.create(model="m", messages=HELLO, stream=True))
            task_id = (await leaving.take())["taskId"]
            for content in ("one ", "two "):
                await leaving.say(type="delta", taskId=task_id, content=content)
            chunks = aiter(await asking)
            said = [(await anext(chunks)).choices[0].delta.content for _ in range(2)]
            await going.aclose()
        async with worker(second) as staying:
            assert (await staying.take())["attempt"] == 1
            for content in ("uno ", "dos ", "tres"):
                await staying.say(type="delta", taskId=task_id, content=content)
            await staying.say(type="task_complete", taskId=task_id, result="one two three")
            said += [chunk.choices[0].delta.content async for chunk in chunks]
    assert said == ["one ", "two ", "three", None]


async def test_a_worker_without_partial_results_is_streamed_as_one_chunk(url: str, client: AsyncOpenAI) -> None:
    async with worker(url) as one:
        asking = asyncio.create_task(client.chat.completions.create(model="m", messages=HELLO, stream=True))
        task = await one.take()
        stream = await asking  # the keep-alive has begun the answer
        await one.say(type="task_complete", taskId=task["taskId"], result="all at once")
        said = [chunk.choices[0].delta.content async for chunk in stream]
        assert "".join(text or "" for text in said) == "all at once"


async def test_the_model_leads_to_its_group(url: str, client: AsyncOpenAI) -> None:
    async with (
        worker(url, "gpu", models=["llama", "org/mixtral"]) as gpu,
        worker(url, "cpu") as cpu,
        worker(url) as plain,
    ):

        async def announced() -> list[str]:
            return [model.id async for model in client.models.list()]

        async def all_are_there() -> bool:
            return len(await announced()) == 5

        await eventually(all_are_there, because="the models are announced, and their groups have workers")
        assert await announced() == ["cpu/default", "default", "gpu/default", "llama", "org/mixtral"]
        assert (await client.models.retrieve("llama")).owned_by == "gpu"
        for name, one, model in (
            ("llama", gpu, "llama"),
            ("org/mixtral", gpu, "org/mixtral"),
            ("cpu/tiny", cpu, "tiny"),
            ("other", plain, "other"),
        ):
            asking = asyncio.create_task(client.chat.completions.create(model=name, messages=HELLO))
            assert (await answer(one, "yes"))["model"] == model
            assert (await asking).model == name
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("nothing")


async def test_what_is_listed_can_be_called_and_what_left_is_not_listed(url: str, client: AsyncOpenAI) -> None:
    async def listed() -> list[str]:
        return [model.id async for model in client.models.list()]

    async def are(expected: list[str]) -> None:
        async def so() -> bool:
            return await listed() == expected

        # Longer than the directory's second and shorter than the time in which a silent process counts as there.
        await eventually(so, because=f"{expected} can be called", timeout_s=4)

    assert await listed() == []
    async with worker(url, "gpu") as first:
        await are(["gpu/default"])
        async with worker(url, "gpu", models=["llama"]) as second, worker(url) as plain:
            working = [asyncio.create_task(one.work(lambda _: "hi")) for one in (first, second, plain)]
            await are(["default", "gpu/default", "llama"])
            for name in await listed():
                completion = await client.chat.completions.create(model=name, messages=HELLO)
                assert completion.choices[0].message.content == "hi"
            for one in working:
                one.cancel()
    await are([])
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpu/default")


async def test_errors_are_those_that_the_client_knows(url: str, client: AsyncOpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match="No worker available") as refused:
        await client.chat.completions.create(model="m", messages=HELLO)
    assert (refused.value.status_code, refused.value.code) == (503, "no_worker")
    with pytest.raises(openai.BadRequestError, match="messages"):
        await client.chat.completions.create(model="m", messages=[])
    async with worker(url) as one:
        for stream in (False, True):
            asking = asyncio.create_task(ask(client, stream))
            task = await one.take()
            await one.say(type="task_error", taskId=task["taskId"], error="out of memory", code="oom")
            with pytest.raises(openai.InternalServerError, match="out of memory"):
                await asking


async def test_refusals_are_those_that_the_client_knows_too(valkey_url: str) -> None:
    settings = Settings.model_validate({"redis_url": valkey_url, "access": {"jwt_secret": "s" * 32}})
    async with (
        serving(settings) as address,
        AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client,
    ):
        for asking in (client.models.list(), client.chat.completions.create(model="m", messages=HELLO)):
            with pytest.raises(openai.AuthenticationError) as refused:
                await asking
            assert (refused.value.code, refused.value.type) == ("invalid_api_key", "invalid_request_error")
        reader = token_of(settings, user_id="7", scopes=[Scope.READ])
        assert (await client.with_options(api_key=reader).models.list()).data == []
        with pytest.raises(openai.PermissionDeniedError, match="submit"):
            await client.with_options(api_key=reader).chat.completions.create(model="m", messages=HELLO)


async def ask(client: AsyncOpenAI, stream: bool) -> Any:
    return await client.chat.completions.create(model="m", messages=HELLO, stream=stream)  # type: ignore[call-overload]


async def test_a_stream_that_is_left_cancels_its_task(url: str, client: AsyncOpenAI) -> None:
    async with worker(url) as one:
        asking = asyncio.create_task(client.chat.completions.create(model="m", messages=HELLO, stream=True))
        task = await one.take()
        await one.say(type="delta", taskId=task["taskId"], content="one")
        stream = await asking
        async for _ in stream:
            break
        await stream.close()
        assert (await one.hear())["reason"] == "cancelled"


CHOICES: list[Any] = [
    {"index": 1, "message": {"role": "assistant", "content": "b"}, "finish_reason": "length"},
    {"index": 0, "message": {"role": "assistant", "content": "a and more"}, "finish_reason": "stop"},
    {"message": {"role": "assistant", "content": "c"}, "logprobs": {"content": []}},
    {"content": "d", "index": 1},
    "e",
    {"message": {"content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]}},
]
EXPECTED = {0: "a and more", 1: "b", 2: "c", 3: "d", 4: "e", 5: None}
FINISHED = {0: "stop", 1: "length", 2: "stop", 3: "stop", 4: "stop", 5: "tool_calls"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 30, "total_tokens": 31}


async def test_every_choice_is_in_the_answer(url: str, client: AsyncOpenAI) -> None:
    async with worker(url) as one:
        asking = asyncio.create_task(client.chat.completions.create(model="m", messages=HELLO, n=6))
        payload = await answer(one, {"choices": CHOICES, "usage": USAGE})
        assert payload["parameters"] == {"n": 6}
        completion = await asking
        assert {choice.index: choice.message.content for choice in completion.choices} == EXPECTED
        assert {choice.index: choice.finish_reason for choice in completion.choices} == FINISHED
        assert completion.usage is not None
        assert completion.usage.total_tokens == 31


@pytest.mark.parametrize("parts", [[], ["a", " and"]])
async def test_every_choice_is_streamed_under_its_index(url: str, client: AsyncOpenAI, parts: list[str]) -> None:
    async with worker(url) as one:
        asking = asyncio.create_task(
            client.chat.completions.create(
                model="m", messages=HELLO, n=6, stream=True, stream_options={"include_usage": True}
            )
        )
        task = await one.take()
        for content in parts:
            await one.say(type="delta", taskId=task["taskId"], content=content)
        stream = aiter(await asking)
        chunks = [await anext(stream) for _ in parts]
        await one.say(type="task_complete", taskId=task["taskId"], result={"choices": CHOICES, "usage": USAGE})
        chunks += [chunk async for chunk in stream]
    said: dict[int, str] = {}
    finished: dict[int, str] = {}
    for chunk in chunks:
        assert len(chunk.choices) <= 1
        for choice in chunk.choices:
            assert choice.index not in finished
            first = choice.index not in said
            assert choice.delta.role == ("assistant" if first else None)
            said[choice.index] = said.get(choice.index, "") + (choice.delta.content or "")
            if choice.finish_reason is not None:
                finished[choice.index] = choice.finish_reason
    assert said == {index: text or "" for index, text in EXPECTED.items()}
    assert finished == FINISHED
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage is not None] == [31]
    assert chunks[-1].choices == []
