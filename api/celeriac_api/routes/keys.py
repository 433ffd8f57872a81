"""API keys: list, create and revoke them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Self

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import Response

from celeriac.access.api_key import key_record, make_key
from celeriac.access.principal import Scope
from celeriac.errors import ForbiddenError
from celeriac.settings.values import MAX_DURATION_S
from celeriac.store.api_keys import ApiKeys
from celeriac_api.access.rights import ADMIN
from celeriac_api.http.problems import KeyNotFoundError
from celeriac_api.http.responses import json_response
from celeriac_api.openapi.problem_examples import KEY_ID
from celeriac_api.openapi.responses import problems
from celeriac_api.parts import PartsOf
from celeriac_api.routing import Router

router = Router(prefix="/api/v1/keys", tags=["operations"])

_EXAMPLE: Final[dict[str, Any]] = {
    "id": KEY_ID,
    "name": "billing",
    "user_id": "7",
    "scopes": ["read", "submit"],
    "created_at": "2030-01-31T08:00:00.000Z",
    "expires_at": None,
}


class Key(BaseModel):
    """An API key, without its secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    name: str
    user_id: str | None
    scopes: list[Scope]
    created_at: str
    expires_at: Annotated[str | None, Field(description="`null`: it is valid until it is revoked.")]


class Keys(BaseModel):
    """All API keys, the oldest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"keys": [_EXAMPLE]}]})

    keys: list[Key]


class NewKey(Key):
    """A key that was created."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_EXAMPLE, "key": f"cel_{KEY_ID}_{'x' * 43}"}]})

    key: Annotated[str, Field(description="The key itself. It cannot be read again: only its hash is stored.")]


class RevokedKey(BaseModel):
    """A key that was revoked."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": KEY_ID, "revoked": True}]})

    id: str
    revoked: bool


class KeyRequest(BaseModel):
    """A key to create."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"name": "billing", "user_id": "7"}, {"name": "gpu-1", "scopes": ["worker"], "ttl_s": 86400}]
        },
    )

    name: Annotated[str, Field(min_length=1, max_length=200, description="What it is for; lists show it.")]
    user_id: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=256,
            description="The user whose tasks it gives access to; not needed with the scope `admin` or `worker`.",
        ),
    ] = None
    scopes: Annotated[list[Scope], Field(min_length=1, description="What it may do.")] = [Scope.SUBMIT, Scope.READ]
    ttl_s: Annotated[
        float | None,
        Field(gt=0, le=MAX_DURATION_S, description="How long it is valid (seconds); `null`: until it is revoked."),
    ] = None

    @model_validator(mode="after")
    def _owned(self) -> Self:
        if self.user_id is None and not {Scope.ADMIN, Scope.WORKER} & set(self.scopes):
            raise ValueError("name the key's user as user_id, or give it the scope admin or worker")
        if self.user_id is not None and not self.user_id.isprintable():
            raise ValueError("user_id holds characters that cannot be printed")
        return self


@router.get(
    "",
    access=ADMIN,
    summary="List the API keys",
    description="Without their secrets.",
    response_model=Keys,
    responses=problems("store_unavailable"),
)
async def list_keys(parts: PartsOf) -> Response:
    """Answer with all keys."""
    return json_response({"keys": [key_record(key) for key in await ApiKeys(parts.store).all()]})


@router.post(
    "",
    access=ADMIN.audited("key.create"),
    status_code=201,
    summary="Create an API key",
    description="The answer is the only place where the key is shown. While authentication is off, keys are created on "
    "the machine itself: `celeriac keys create`.",
    response_model=NewKey,
    response_description="The key is valid.",
    responses=problems("malformed_json", "unsupported_media_type", "invalid_request", "forbidden", "store_unavailable"),
)
async def create_key(wanted: KeyRequest, parts: PartsOf) -> Response:
    """Store a key, and answer with it."""
    if not parts.settings.access.on:
        raise ForbiddenError("authentication is off, so anybody could create keys here: create them on the machine")
    key, text = make_key(wanted.name, user_id=wanted.user_id, scopes=wanted.scopes, ttl_s=wanted.ttl_s)
    await ApiKeys(parts.store).add(key)
    return json_response({**key_record(key), "key": text}, 201)


@router.delete(
    "/{key_id}",
    access=ADMIN.audited("key.revoke"),
    summary="Revoke an API key",
    description="Within seconds it is refused everywhere.",
    response_model=RevokedKey,
    responses=problems("key_not_found", "store_unavailable"),
)
async def revoke_key(
    key_id: Annotated[str, Path(description="The key's id: the part after `cel_`.", examples=[KEY_ID])], parts: PartsOf
) -> Response:
    """Delete the key."""
    if not await ApiKeys(parts.store).revoke(key_id):
        raise KeyNotFoundError(key_id)
    return json_response({"id": key_id, "revoked": True})
