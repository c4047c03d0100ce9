"""What a manifest may contain, as types: decoding with JSON pointers in the errors, and the JSON Schema."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from remotemedia.core.exceptions import ManifestError
from remotemedia.nodes.registry import close_matches

VERSION = "v1"
Name = Annotated[str, Meta(min_length=1)]


class NodeEntry(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One node."""

    id: Annotated[Name, Meta(description="Unique name of the node in this manifest")]
    node_type: Annotated[Name, Meta(description="A registered node type, or package.module:Class")]
    params: Annotated[dict[str, Any], Meta(description="Keyword arguments of the node's class")] = {}
    executor: Annotated[
        str | None, Meta(description='"inline", "multiprocess", "ray", or null: the call decides')
    ] = None
    is_streaming: Annotated[bool | None, Meta(description="process() takes an async iterator over all inputs")] = None
    capabilities: Annotated[dict[str, Any] | None, Meta(description="What the node needs to run")] = None
    resources: Annotated[
        dict[str, Annotated[float, Meta(ge=0)]] | None,
        Meta(description='What its machine must have, for executor "ray": {"num_gpus": 1}'),
    ] = None
    host: Annotated[
        Name | None, Meta(description='Name, address or label of its machine, for executor "ray"')
    ] = None
    replicas: Annotated[int, Meta(ge=1, le=1, description="Workers that share the node's work: only 1 so far")] = 1


class Connection(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """The outputs of node `from` are inputs of node `to`."""

    from_: Annotated[Name, Meta(description="Id of the node that gives")]
    to: Annotated[Name, Meta(description="Id of the node that takes")]


class Manifest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename={"schema": "$schema"}):
    """A remotemedia pipeline: nodes, and connections that form a graph without cycles."""

    version: Literal["v1"]
    nodes: Annotated[list[NodeEntry], Meta(min_length=1)]
    connections: Annotated[
        list[Connection] | UnsetType, Meta(description="Left out: the nodes form a chain in their order")
    ] = UNSET
    metadata: Annotated[dict[str, Any], Meta(description="Free; `name` names the pipeline")] = {}
    schema: str | None = None


T = TypeVar("T", bound=msgspec.Struct)


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of a manifest, so that editors check and complete it."""
    schema = msgspec.json.schema(Manifest)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "remotemedia manifest", **schema}


def parse_manifest(manifest: str | dict[str, Any], *, source: str | None = None) -> Manifest:
    """The manifest in JSON text or a dict, checked. `source`: its file name, for the errors. Raises ManifestError."""
    data = _json(manifest, source) if isinstance(manifest, str) else manifest
    if not isinstance(data, dict):
        raise ManifestError(f"it is {_json_type(data)}", expected="a JSON object", source=source)
    if not data:
        raise ManifestError("it is empty", expected=f'an object with "version": "{VERSION}" and "nodes"', source=source)
    if data.get("nodes") == []:
        raise ManifestError("there are no nodes", pointer="/nodes", expected="at least one node", source=source)
    return decode(data, Manifest, source=source)


def decode(data: Any, kind: type[T], *, pointer: str = "", source: str | None = None) -> T:
    """`data` as `kind`. Raises ManifestError at the offending place below `pointer`."""
    try:
        return msgspec.convert(data, kind, strict=True)
    except msgspec.ValidationError as error:
        _raise(error, data, pointer, source)


def _json(text: str, source: str | None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        hint = "JSON text"
        if not text.lstrip().startswith("{") and text.endswith((".json", ".yaml", ".yml")):
            hint = f"JSON text, not a file name: pass pathlib.Path({text!r}).read_text()"
        reason = f"not valid JSON, line {error.lineno} column {error.colno}: {error.msg}"
        raise ManifestError(reason, expected=hint, source=source) from error


_AT = re.compile(r"^(?P<what>.*?)(?: - at (?:`key` in )?`\$(?P<path>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_MISSING = re.compile(r"Object missing required field `(.*)`")
_EXPECTED = re.compile(r"Expected (.*?)(?:, got (.*))?", re.DOTALL)
_FIELDS: tuple[type[msgspec.Struct], ...] = (Manifest, NodeEntry, Connection)


def _raise(error: msgspec.ValidationError, data: Any, base: str, source: str | None) -> NoReturn:
    """The decoder's error, which names a place like `$.nodes[0].id`, as ManifestError."""
    match = _AT.match(str(error))
    what, path = (match["what"], match["path"] or "") if match else (str(error), "")
    path = path.replace("[...]", "")  # some value of a mapping: the mapping is the place
    steps = [name or index for name, index in _STEP.findall(path)]
    pointer = base + "".join(f"/{_escaped(step)}" for step in steps)
    reason, expected = what, None
    near: tuple[str, ...] = ()
    if unknown := _UNKNOWN.fullmatch(what):
        known = _known_fields(_at(data, steps))
        reason, expected = f"unknown field {unknown[1]!r}", f"one of {', '.join(known)}"
        near = close_matches(unknown[1], known)
        pointer += f"/{_escaped(unknown[1])}"
    elif missing := _MISSING.fullmatch(what):
        reason = f"the field {missing[1]!r} is missing"
        expected = {"version": f'"version": "{VERSION}"', "nodes": '"nodes": [...]'}.get(missing[1])
    elif pointer.endswith("/replicas"):
        reason, expected = f"it is {_at(data, steps)!r}", "1 (several workers for one node are not supported yet)"
    elif wrong := _EXPECTED.fullmatch(what):
        reason, expected = f"it is {wrong[2] or repr(_at(data, steps))}".replace("`", ""), wrong[1].replace("`", "")
    elif pointer.endswith("/version"):
        reason, expected = f"unknown version {_at(data, steps)!r}", f'"{VERSION}"'
    raise ManifestError(reason, pointer=pointer, expected=expected, close_matches=near, source=source) from None


def _known_fields(data: Any) -> tuple[str, ...]:
    """The fields of the type that `data`, an object, is closest to."""
    names = [tuple(field.encode_name for field in msgspec.structs.fields(kind)) for kind in _FIELDS]
    return max(names, key=lambda fields: len(set(fields) & set(data)))


def _at(data: Any, steps: list[str]) -> Any:
    for step in steps:
        data = data[int(step)] if isinstance(data, list) else data[step]
    return data


def _escaped(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")


def _json_type(data: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(data), "a number")
