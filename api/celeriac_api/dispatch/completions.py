"""Turns a worker's result into OpenAI's chat completions. Pure functions.

Shapes: https://platform.openai.com/docs/api-reference/chat (objects `chat.completion` and `chat.completion.chunk`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from celeriac import json_text

#: End of a stream.
DONE: Final = b"data: [DONE]\n\n"
#: Keeps a quiet stream open.
KEEPALIVE: Final = b": waiting\n\n"


@dataclass(frozen=True, slots=True)
class ChatCall:
    """The fields that every answer to one call repeats."""

    task_id: str
    model: str
    created: int

    def _document(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.task_id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
        }

    def completion(self, result: Any) -> dict[str, Any]:
        """Return the completion for a result."""
        document = self._document("chat.completion")
        if isinstance(result, dict) and isinstance(result.get("choices"), list):
            return {**document, **result, "choices": choices_of(result)}
        choice = {"index": 0, "message": message_of(result), "logprobs": None, "finish_reason": finish_of(result)}
        document["choices"] = [choice]
        if (usage := usage_of(result)) is not None:
            document["usage"] = usage
        return document

    def chunk(
        self, delta: dict[str, Any], finish_reason: str | None = None, *, index: int = 0, logprobs: Any = None
    ) -> bytes:
        """Return a chunk of a stream as an event; `index` is that of the choice it belongs to."""
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return event({**self._document("chat.completion.chunk"), "choices": [choice]})

    def usage_chunk(self, usage: Any) -> bytes:
        """Return the last chunk of a stream that reports its usage."""
        return event({**self._document("chat.completion.chunk"), "choices": [], "usage": usage})


def event(document: Any) -> bytes:
    """Return a document as a server-sent event."""
    return b"data: " + json_text.encode(document) + b"\n\n"


def choices_of(result: Any) -> list[dict[str, Any]]:
    """Return the choices in a result, each with its `index`, `message` and `finish_reason`.

    A result without a list of choices is one choice. A choice without a number, or with one that another has, gets
    the lowest number that is free.
    """
    found = result.get("choices") if isinstance(result, dict) else None
    if not isinstance(found, list) or not found:
        return [_choice(result, 0)]
    taken: set[int] = set()
    given = [_own_index(choice, taken) for choice in found]
    free = (number for number in range(len(found) + len(taken)) if number not in taken)
    return [_choice(choice, next(free) if index is None else index) for choice, index in zip(found, given, strict=True)]


def _own_index(choice: Any, taken: set[int]) -> int | None:
    """Return the number that a choice has, and add it to `taken`; None if it has none of its own."""
    index = choice.get("index") if isinstance(choice, dict) else None
    if not isinstance(index, int) or isinstance(index, bool) or index < 0 or index in taken:
        return None
    taken.add(index)
    return index


def _choice(choice: Any, index: int) -> dict[str, Any]:
    own = choice if isinstance(choice, dict) and "message" in choice else {}
    return {
        "logprobs": None,
        **own,
        "index": index,
        "message": message_of(choice),
        "finish_reason": finish_of(choice),
    }


def message_of(result: Any) -> dict[str, Any]:
    """Return the assistant's message in a result: a text, or an object with `content`, `message` or `choices`."""
    if isinstance(result, str):
        return {"role": "assistant", "content": result}
    if isinstance(result, dict):
        choices = result.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            result = choices[0]
        if isinstance(result.get("message"), dict):
            return {"role": "assistant", "content": None, **result["message"]}
        if "content" in result:
            content = result["content"]
            message = {"role": result.get("role", "assistant"), "content": content}
            if content is not None and not isinstance(content, str):
                message["content"] = _json(content)
            if result.get("tool_calls"):
                message["tool_calls"] = result["tool_calls"]
            return message
        if result.get("tool_calls"):
            return {"role": "assistant", "content": None, "tool_calls": result["tool_calls"]}
    return {"role": "assistant", "content": _json(result)}


def finish_of(result: Any) -> str:
    """Return why the model stopped, according to the worker."""
    if isinstance(result, dict):
        choices = result.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            result = choices[0]
        if isinstance(result.get("finish_reason"), str):
            return str(result["finish_reason"])
        if message_of(result).get("tool_calls"):
            return "tool_calls"
    return "stop"


def usage_of(result: Any) -> Any:
    """Return the usage of tokens according to the worker, or None."""
    return result.get("usage") if isinstance(result, dict) and isinstance(result.get("usage"), dict) else None


def rest_of(result: Any, sent: str) -> dict[str, Any]:
    """Return the delta that completes what was streamed so far."""
    message = message_of(result)
    delta: dict[str, Any] = {}
    content = message.get("content")
    if isinstance(content, str) and content.startswith(sent) and len(content) > len(sent):
        delta["content"] = content[len(sent) :]
    if message.get("tool_calls"):
        delta["tool_calls"] = [{"index": i, **call} for i, call in enumerate(message["tool_calls"])]
    return delta


def error_document(message: str, kind: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    """Return an error in OpenAI's shape."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _json(value: Any) -> str:
    return json_text.encode(value).decode()
