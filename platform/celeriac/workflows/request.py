"""What a caller writes to submit a workflow: its nodes, each a submission and the names of those it comes after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from celeriac.errors import InvalidSubmissionError, Violation
from celeriac.model import NodeDependency, When
from celeriac.tasks.request import MAX_DEPENDENCIES, MAX_METADATA_BYTES, MAX_USER_ID_LENGTH, SubmitRequest, UserId
from celeriac.violations import check_field_count, no_such, outer_violations, shown, violations_of
from celeriac.workflows.graph import cycle_in, in_order

#: Most nodes of one request.
MAX_NODES: Final = 1000
MAX_NAME_LENGTH: Final = 200
MAX_NODE_NAME_LENGTH: Final = 128
#: Nodes whose faults an answer tells; the others have most likely the same.
_TOLD: Final = 20


_COUNT: Final[dict[str, Any]] = {
    "type": "grpc_task",
    "payload": {"service": "demo", "method": "count", "data": {"seconds": 1}},
}
_ECHO: Final[dict[str, Any]] = {
    "type": "grpc_task",
    "payload": {"service": "demo", "method": "echo", "data": {"counted": {"$result": "count"}}},
    "after": ["count"],
}


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must hold printable characters only")
    return value


class NodeReference(BaseModel):
    """A node that another one comes after, and the end of it that is waited for."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    node: Annotated[
        str, Field(min_length=1, max_length=MAX_NODE_NAME_LENGTH, description="The name of a node of this workflow.")
    ]
    when: Annotated[When, Field(description="`completed` (the default), `failed` (expiry included) or `ended`.")] = (
        When.COMPLETED
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema of what a caller may write: the object, or the name alone."""
        written = handler.resolve_ref_schema(handler(core))
        return {"anyOf": [written["properties"]["node"], written]}


def _reference(value: Any) -> Any:
    return {"node": value} if isinstance(value, str) else value


def _references(values: list[NodeReference]) -> list[NodeReference]:
    seen: set[str] = set()
    for place, one in enumerate(values):
        if one.node in seen:
            raise ValueError(f"[{place}]: the node {one.node!r} is there twice")
        seen.add(one.node)
    return values


class NodeRequest(SubmitRequest):
    """A node: a submission, and the nodes that it comes after."""

    after: Annotated[
        Annotated[
            list[Annotated[NodeReference, BeforeValidator(_reference)]],
            Field(max_length=MAX_DEPENDENCIES),
            AfterValidator(_references),
        ]
        | None,
        Field(
            description=f"Start after these nodes, at most {MAX_DEPENDENCIES}: the name of a node that is to complete, "
            'or `{"node": NAME, "when": W}`.'
        ),
    ] = None

    @property
    def comes_after(self) -> list[NodeDependency]:
        """The nodes that it comes after."""
        return [NodeDependency(one.node, one.when) for one in self.after or ()]


_Nodes = Annotated[
    dict[str, NodeRequest],
    Field(
        min_length=1,
        max_length=MAX_NODES,
        description=f'The nodes by name: 1 to {MAX_NODES}. `{{"$result": NAME}}` in a payload stands for the result of '
        "a node that it comes after.",
    ),
]


class NodesRequest(BaseModel):
    """Nodes that a workflow gets in addition."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, defer_build=True, json_schema_extra={"examples": [{"nodes": {"twice": _ECHO}}]}
    )

    nodes: _Nodes


class WorkflowRequest(BaseModel):
    """A workflow to run, as a caller writes it."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        defer_build=True,
        json_schema_extra={"examples": [{"name": "report", "nodes": {"count": _COUNT, "echo": _ECHO}}]},
    )

    name: Annotated[
        Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH), AfterValidator(_printable)],
        Field(description="What it is called in lists; several workflows may have one name."),
    ] = "workflow"
    nodes: _Nodes
    metadata: Annotated[
        dict[str, Any] | None,
        Field(description=f"Whatever you want to find again on the workflow; at most {MAX_METADATA_BYTES} bytes."),
    ] = None
    user_id: Annotated[
        UserId | None,
        Field(
            description=f"On whose behalf it runs, at most {MAX_USER_ID_LENGTH} characters; also that of each node "
            "without its own."
        ),
    ] = None


class WorkflowHead(BaseModel):
    """A workflow without its nodes, which are read one by one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH), AfterValidator(_printable)] = "workflow"
    nodes: Any = None
    metadata: dict[str, Any] | None = None
    user_id: UserId | None = None


def read_head(document: object) -> WorkflowHead:
    """Check what a workflow has beside its nodes; raises `InvalidSubmissionError` that names the fields."""
    if not isinstance(document, Mapping):
        raise InvalidSubmissionError([Violation("", "a workflow is a JSON object")])
    check_field_count(document, WorkflowRequest.model_fields)
    try:
        return WorkflowHead.model_validate({**document, "nodes": None})
    except ValidationError as exc:
        raise InvalidSubmissionError(violations_of(exc)) from exc


def node_documents(document: object) -> Mapping[str, object]:
    """Return the nodes of a request by name, unchecked; raises `InvalidSubmissionError` for anything else."""
    nodes = document.get("nodes") if isinstance(document, Mapping) else None
    if not isinstance(nodes, Mapping) or not nodes:
        raise InvalidSubmissionError(
            [Violation("nodes", "must be a JSON object with at least one node: NAME → submission")]
        )
    if len(nodes) > MAX_NODES:
        message = f"holds {len(nodes)} nodes, above the limit of {MAX_NODES}: add others with POST …/nodes"
        raise InvalidSubmissionError([Violation("nodes", message)])
    for name in nodes:
        if not 1 <= len(name) <= MAX_NODE_NAME_LENGTH or not name.isprintable():
            message = f"is not a name for a node: use 1 to {MAX_NODE_NAME_LENGTH} printable characters"
            raise InvalidSubmissionError([Violation(f"nodes.{shown(name)}", message)])
    return nodes


def check_no_more(document: object) -> None:
    """Raise `InvalidSubmissionError` unless a request for more nodes has nothing but `nodes`."""
    unknown = [name for name in document if name != "nodes"] if isinstance(document, Mapping) else []
    if unknown:
        raise InvalidSubmissionError([Violation(shown(str(unknown[0])), no_such("field", str(unknown[0]), ["nodes"]))])


def read_node(name: str, document: object) -> NodeRequest:
    """Check the shape of one node; raises `InvalidSubmissionError` that names the fields."""
    if not isinstance(document, Mapping):
        raise InvalidSubmissionError([Violation(f"nodes.{name}", "a node is a JSON object")])
    check_field_count(document, NodeRequest.model_fields, f"nodes.{name}.")
    try:
        return NodeRequest.model_validate(document)
    except ValidationError as exc:
        raise InvalidSubmissionError(outer_violations(exc, NodeRequest)).below(f"nodes.{name}") from exc


def ordered(nodes: Mapping[str, NodeRequest], *, known: Sequence[str] | None = None, most_edges: int) -> list[str]:
    """Return the names so that each node comes after those that it names.

    `known` are those nodes that exist already and are named here, None for a new workflow. Raises
    `InvalidSubmissionError` for unknown names, a cycle, which it shows as a path, and more than `most_edges`
    dependencies.
    """
    after = {name: [one.node for one in node.comes_after] for name, node in nodes.items()}
    names = {*nodes, *(known or ())}
    unknown = [
        Violation(f"nodes.{name}.after.{place}", _no_such_node(one, nodes, new=known is None))
        for name, before in after.items()
        for place, one in enumerate(before)
        if one not in names
    ]
    if unknown:
        raise InvalidSubmissionError(unknown[:_TOLD])
    edges = sum(len(before) + len(nodes[name].depends_on or ()) for name, before in after.items())
    if edges > most_edges:
        message = f"have {edges} dependencies, above the limit of {most_edges} (setting workflows.max_edges)"
        raise InvalidSubmissionError([Violation("nodes", message)])
    order = in_order(after)
    if order is None:
        cycle = cycle_in(after)
        message = f"a cycle: {_path(cycle)}: none of these nodes could ever start"
        raise InvalidSubmissionError([Violation(f"nodes.{cycle[0]}.after", message)])
    return order


def _no_such_node(name: str, nodes: Mapping[str, object], *, new: bool) -> str:
    if new:
        return f"{no_such('node', name, nodes)} (it is {shown(name)!r})"
    return f"there is no node {shown(name)!r}, neither in this request nor in the workflow"


def _path(names: Sequence[str]) -> str:
    if len(names) > _TOLD:
        names = [*names[: _TOLD - 1], "…", names[-1]]
    return " → ".join(names)
