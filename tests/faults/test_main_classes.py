"""Programs without a guard: what is defined in __main__ travels, and __main__ is not run again."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_tools import Place, Script, interpreter_environment

PROGRAM = """
import sys
print("top level", flush=True)
from remotemedia.core.node import Node
from remotemedia.runtime import run_pipeline

OFFSET = 100

class Base(Node):
    def helper(self, data):
        return data + OFFSET

class Adds(Base):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def process(self, data):
        return self.function(super().helper(data))

def closure(factor):
    def multiply(value):
        return value * factor
    return multiply

nodes = [Adds(lambda value: value + 1), Adds(closure(2))]
print(*run_pipeline(nodes, [0, 1], executor="multiprocess"), flush=True)
"""
EXPECTED = ["top level", "402 404"]


def test_a_script_without_a_guard(place: Place, run_script: Callable[..., Script]) -> None:
    script = run_script(PROGRAM)
    assert script.expect_success() == EXPECTED
    place.expect_nothing_left()


@pytest.mark.parametrize("how", ["stdin", "-c", "-m", "interactive"])
def test_other_ways_to_run_python(how: str, place: Place, tmp_path: Path) -> None:
    program = textwrap.dedent(PROGRAM)
    (tmp_path / "as_module.py").write_text(program)
    arguments = {"stdin": ["-"], "-c": ["-c", program], "-m": ["-m", "as_module"], "interactive": ["-i", "-q"]}[how]
    if how == "interactive":  # the prompt ends a block at an empty line only
        program = program.replace("\n\nclass", "\n\n\nclass").replace("+ OFFSET\n", "+ OFFSET\n\n")
        program = program.replace("self.function = function\n\n", "self.function = function\n")
        program = program.replace("(data))\n", "(data))\n\n").replace("return multiply\n", "return multiply\n\n")
    done = subprocess.run(
        [sys.executable, *arguments],
        input=program if how in {"stdin", "interactive"} else "",
        env={**interpreter_environment(), **place.environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stdout.split("\n")[:-1] == EXPECTED, done.stderr
    assert done.returncode == 0
    place.expect_nothing_left()


def test_an_exception_class_of_main_comes_back_as_itself(place: Place, run_script: Callable[..., Script]) -> None:
    script = run_script("""
    from remotemedia.core.node import Node
    from remotemedia.core.exceptions import NodeProcessError
    from remotemedia.runtime import run_pipeline

    class MyError(Exception):
        pass

    class Raises(Node):
        def process(self, data):
            raise MyError("mine", 5)

    try:
        run_pipeline([Raises()], [0], executor="multiprocess")
    except NodeProcessError as error:
        assert type(error.__cause__) is MyError, error.__cause__
        print(error.__cause__.args)
    """)
    assert script.expect_success() == ["('mine', 5)"]


def test_a_node_that_runs_a_pipeline_of_its_own(place: Place, run_script: Callable[..., Script]) -> None:
    script = run_script("""
    from fault_nodes import *
    from remotemedia.runtime import run_pipeline

    class Inner(Pass):
        def process(self, data):
            return sum(run_pipeline([Pass(), Pass()], [data, data], executor="multiprocess"))

    print(*run_pipeline([Inner()], [1, 2], executor="multiprocess"))
    """)
    assert script.expect_success() == ["2 4"]
    place.expect_nothing_left()


def test_a_module_that_runs_a_pipeline_while_it_is_imported(
    tmp_path: Path, place: Place, run_script: Callable[..., Script]
) -> None:
    """It is imported once more in each worker; that must end in an error, not in workers without end."""
    (tmp_path / "runs_on_import.py").write_text(
        "from remotemedia.core.node import Node\n"
        "from remotemedia.runtime import run_pipeline\n"
        "print('imported', flush=True)\n"
        "class Local(Node):\n"
        "    def process(self, data): return data\n"
        "RESULT = run_pipeline([Local()], [1], executor='multiprocess')\n"
    )
    script = run_script("""
    try:
        import runs_on_import
        print("result", *runs_on_import.RESULT)
    except Exception as error:
        print("error", type(error).__name__, "nesting limit" in str(error))
    """)
    lines = script.expect_success()
    assert lines[-1] == "error NodeNotLoadable True"
    place.expect_nothing_left()
