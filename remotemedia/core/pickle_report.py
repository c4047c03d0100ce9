"""Why something could not be pickled: the way to it through the attributes, the reason, and what to do instead."""

from __future__ import annotations

import functools
import pickle
import reprlib
from collections import deque
from collections.abc import Iterator, Mapping
from time import monotonic
from types import FunctionType, MethodType
from typing import Any

Reductions = Mapping[int, tuple[Any, Any]]
"""id(object) → (the object, what its `__reduce_ex__` gave)."""

_MAX_STEPS = 12  # a longer path is cut in the middle
_MAX_TEXT = 500

# Where the type of the culprit comes from → what it is, and what to do. The first match wins.
_OPEN_LATER = "in initialize(), which runs in the worker, and undo that in cleanup()"
_SUGGESTIONS = (
    ("_thread threading multiprocessing.synchronize queue _queue", f"create locks and threads {_OPEN_LATER}"),
    ("socket _socket ssl _ssl http zmq websockets aiohttp requests", f"open connections {_OPEN_LATER}"),
    ("_io io tempfile mmap", f"keep the path in the node, and open the file {_OPEN_LATER}"),
    (
        "sqlite3 _sqlite3 psycopg psycopg2 asyncpg sqlalchemy pymysql redis pymongo",
        f"keep the address in the node, and connect to the database {_OPEN_LATER}",
    ),
    (
        "torch tensorflow jax jaxlib onnxruntime cupy pycuda tensorrt",
        f"keep the model's path or name in the node, and load it onto the device {_OPEN_LATER}",
    ),
    ("av cv2 PIL", f"keep the path or address in the node, and open the media {_OPEN_LATER}"),
    (
        "asyncio _asyncio uvloop concurrent contextvars _contextvars",
        "create it in an `async def initialize()`: loops, tasks and executors belong to one process",
    ),
    ("subprocess multiprocessing", f"start processes {_OPEN_LATER}"),
    ("ctypes _ctypes _cffi_backend", f"load libraries and make pointers {_OPEN_LATER}"),
    ("weakref _weakref", "keep the key to look the object up with, or leave it out in __getstate__()"),
)
_BUILTIN_SUGGESTIONS = {
    "generator": "keep what the generator is made from, and make it in initialize() or process()",
    "coroutine": "create coroutines where they are awaited, in initialize() or process()",
    "async_generator": "keep what the generator is made from, and make it in initialize() or process()",
    "frame": "keep the text of the traceback instead of frames",
    "traceback": "keep the text of the traceback (traceback.format_exc()) instead of the object",
}
_DEFAULT_SUGGESTION = (
    "create it in initialize(), or leave it out in __getstate__() (which starts from super().__getstate__())"
)


def describe(error: BaseException) -> str:
    """`Type: text` of an exception, bounded, even if its `__str__` raises."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - user code
        text = ""
    text = text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + " …"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def is_recursion(error: BaseException) -> bool:
    """Whether the state was nested too deeply (cloudpickle wraps that into a PicklingError)."""
    return isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError)


def explain_dump(error: BaseException, culprit: Any) -> tuple[str, str]:
    """(reason, suggestion) for an object that raised `error` when it was pickled."""
    if is_recursion(error):
        return "its state is nested too deeply to be pickled", "flatten long linked structures into lists or arrays"
    plain = type(error) in (TypeError, pickle.PicklingError)
    reason = describe(error).partition(": ")[2] if plain else f"pickling it raised {describe(error)}"
    return reason or describe(error), _suggestion(type(culprit))


def explain_load(error: BaseException) -> tuple[str, str]:
    """(reason, suggestion) for a pickle that raised `error` when it was loaded."""
    if isinstance(error, ModuleNotFoundError):
        return (
            f"it needs the module {error.name!r}, which cannot be imported here",
            "install it for this interpreter or add its folder to PYTHONPATH",
        )
    if isinstance(error, (ImportError, AttributeError)):
        return f"loading it raised {describe(error)}", "use the same version of the node's module on both sides"
    if isinstance(error, (pickle.UnpicklingError, EOFError)):
        return f"its data is damaged or cut short ({describe(error)})", "pass all the bytes, unchanged"
    return f"loading it raised {describe(error)}", "see the cause; __setstate__() and __reduce__() run here"


def attributes(obj: Any) -> dict[Any, Any]:
    """What an object keeps, by name: its `__getstate__` if that gives a dict, else its `__dict__`."""
    try:
        state = obj.__getstate__()
    except Exception:  # noqa: BLE001 - user code
        state = None
    return state if isinstance(state, dict) else dict(getattr(obj, "__dict__", {}))


def attribute_path(root: Any, name: str, target: Any, reductions: Reductions, deadline_s: float) -> str:
    """The shortest way from `root`, called `name`, to `target`: "detector.session._lock".

    "" if the target is the root itself or is not found until `deadline_s` (monotonic).
    """
    steps: dict[int, tuple[int, str]] = {}  # id → (id of what holds it, step from there)
    queue, seen = deque([root]), {id(root)}
    while queue and monotonic() < deadline_s:
        holder = queue.popleft()
        for template, key, part in _parts(holder, reductions):
            if id(part) in seen:
                continue
            if part is target:
                steps[id(part)] = id(holder), template.format(key)
                return _path(name, root, target, steps)
            if isinstance(part, (dict, list, tuple, set, frozenset)) or id(part) in reductions:
                seen.add(id(part))
                steps[id(part)] = id(holder), template.format(key)
                queue.append(part)
    return ""


def _path(name: str, root: Any, target: Any, steps: Mapping[int, tuple[int, str]]) -> str:
    found, at = [], id(target)
    while at != id(root):
        at, step = steps[at]
        found.append(step)
    found.reverse()
    if len(found) > _MAX_STEPS:
        found[_MAX_STEPS // 2 : -_MAX_STEPS // 2] = [" … "]
    return name + "".join(found)


def _parts(obj: Any, reductions: Reductions) -> Iterator[tuple[str, Any, Any]]:
    """(template of the step, key, part) for everything that is pickled with `obj`."""
    if id(obj) not in reductions:
        yield from _items(obj)
        return
    reduction = reductions[id(obj)][1]
    if not isinstance(reduction, tuple):
        return  # a global name
    yield from _named_parts(obj)
    for index, argument in enumerate(reduction[1] if len(reduction) > 1 else ()):
        if argument is type(obj):
            yield ".<class {}>", argument.__name__, argument
        else:
            yield "<argument {}>", index, argument
    yield from _state(reduction[2] if len(reduction) > 2 else None)  # noqa: PLR2004 - copyreg's place for the state
    if any(part is not None for part in reduction[3:5]):
        yield from _items(obj)


def _named_parts(obj: Any) -> Iterator[tuple[str, Any, Any]]:
    """The parts of callables, by the names that people know them by."""
    if isinstance(obj, MethodType):
        yield ".__self__", None, obj.__self__
    elif isinstance(obj, functools.partial):
        yield ".args", None, obj.args
        yield ".keywords", None, obj.keywords
    elif isinstance(obj, FunctionType):
        yield from _closure(obj)


def _closure(function: FunctionType) -> Iterator[tuple[str, Any, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield ".<variable {}>", name, cell.cell_contents
        except ValueError:  # a variable without a value yet
            continue


def _state(state: Any) -> Iterator[tuple[str, Any, Any]]:
    """The attributes in a pickle's state: a dict, or (dict or None, dict of slots), or anything of the user's own."""
    halves = state if isinstance(state, tuple) and len(state) == 2 else (state,)  # noqa: PLR2004 - see docstring
    if not all(half is None or isinstance(half, dict) for half in halves):
        yield ".<state>", None, state
        return
    for half in halves:
        for key, value in (half or {}).items():
            yield ".{}", key, value


def _items(obj: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(obj, dict):
        for key, value in obj.items():
            yield "[{}]", reprlib.repr(key), value
            yield "<key {}>", reprlib.repr(key), key
    elif isinstance(obj, (list, tuple, set, frozenset, deque)):
        for index, value in enumerate(obj):
            yield "[{}]", index, value


def _suggestion(kind: type[Any]) -> str:
    if kind.__module__ == "builtins":
        return _BUILTIN_SUGGESTIONS.get(kind.__name__, _DEFAULT_SUGGESTION)
    for modules, suggestion in _SUGGESTIONS:
        if any(kind.__module__ == module or kind.__module__.startswith(module + ".") for module in modules.split()):
            return suggestion
    return _DEFAULT_SUGGESTION
