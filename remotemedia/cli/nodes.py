"""`remotemedia nodes`: what a manifest can be made of."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

from remotemedia.cli import output
from remotemedia.core.exceptions import ConfigurationError

HELP = "list the node types, or show the parameters of one"
DESCRIPTION = (
    "List the registered node types, each with what it does. With a name: its whole documentation, its parameters "
    "with their defaults, and an entry for a manifest."
)
EPILOG = """\
examples:
  remotemedia nodes
  remotemedia nodes Resize
"""
_OF_EVERY_NODE = ("name", "executor", "enable_state", "state_ttl", "max_sessions", "resources", "host", "config")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("node_type", nargs="?", metavar="NAME", help="show this one in full")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    from remotemedia.nodes.registry import get_node_class, registered_nodes

    if arguments.node_type is not None:
        facts = _facts(arguments.node_type)
        if arguments.json:
            output.print_json(facts)
        else:
            output.say(_page(facts))
        return output.OK
    texts = {name: _doc(get_node_class(name)).partition("\n")[0] for name in registered_nodes()}
    if arguments.json:
        output.print_json(texts)
    else:
        width = max(map(len, texts))
        output.say("\n".join(f"{name.ljust(width)}  {text}" for name, text in texts.items()))
    return output.OK


def _facts(name: str) -> dict[str, Any]:
    from remotemedia.nodes.registry import close_matches, find_node_class, registered_nodes

    node_class = find_node_class(name)
    if node_class is None:
        near = close_matches(name, registered_nodes())
        hint = f"did you mean {' or '.join(near)}?" if near else "`remotemedia nodes` lists them"
        raise ConfigurationError(f"there is no node type {name!r}; {hint}")
    parameters = [
        {
            "name": parameter.name,
            "type": _type_text(parameter),
            "required": parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD,
            "default": None if parameter.default is parameter.empty else parameter.default,
        }
        for parameter in _parameters(node_class)
    ]
    init = getattr(vars(node_class).get("__init__"), "__doc__", None)
    return {
        "node_type": name,
        "class": f"{node_class.__module__}:{node_class.__qualname__}",
        "doc": _doc(node_class),
        "parameters_doc": inspect.cleandoc(init or ""),
        "parameters": parameters,
    }


def _doc(node_class: type[Any]) -> str:
    return inspect.cleandoc(node_class.__doc__ or "")


def _parameters(node_class: type[Any]) -> list[inspect.Parameter]:
    """Those of its own: what every node takes is left out, and so is the catch-all for that."""
    found = list(inspect.signature(node_class.__init__).parameters.values())[1:]
    catch_all = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [p for p in found if p.kind not in catch_all and p.name not in _OF_EVERY_NODE]


def _type_text(parameter: inspect.Parameter) -> str:
    if parameter.annotation is parameter.empty:
        return ""
    return parameter.annotation if isinstance(parameter.annotation, str) else inspect.formatannotation(
        parameter.annotation
    )


def _page(facts: dict[str, Any]) -> str:
    lines = [f"{facts['node_type']}  ({facts['class']})", "", facts["doc"], ""]
    if facts["parameters"]:
        lines.append("parameters:")
        for p in facts["parameters"]:
            default = "required" if p["required"] else f"default {p['default']!r}"
            kind = f" ({p['type']})" if p["type"] else ""
            lines.append(f"  {p['name']}{kind}, {default}")
    else:
        lines.append("parameters: none")
    if facts["parameters_doc"]:
        lines += ["", facts["parameters_doc"]]
    needed = {p["name"]: "…" for p in facts["parameters"] if p["required"]}
    entry = {"id": facts["node_type"].lower(), "node_type": facts["node_type"]}
    if needed:
        entry["params"] = needed
    lines += ["", "in a manifest:", f"  {output.json_text(entry)}"]
    return "\n".join(lines)
