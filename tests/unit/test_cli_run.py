"""The command line: results, exit codes, one-line errors, and signals to a real process."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import remotemedia
from remotemedia.cli import main, output
from remotemedia.core.exceptions import (
    ConfigurationError,
    ManifestError,
    NodeInitializeError,
    NodeProcessError,
    SharedMemoryExhausted,
    WorkerIdentity,
    WorkerStartTimeout,
)
from remotemedia.nodes.registry import registered_nodes
from remotemedia.testing.sources import make_clip

CALCULATOR = {
    "version": "v1",
    "nodes": [
        {"id": "add", "node_type": "CalculatorNode", "params": {"operation": "add", "operand": 2}},
        {"id": "pass", "node_type": "PassThroughNode"},
    ],
    "connections": [{"from": "add", "to": "pass"}],
}
MY_NODES = """
    import sys
    from remotemedia import Node

    class Endless(Node):
        def process(self):
            print("running", flush=True)
            while True:
                yield 1

        def cleanup(self):
            print("cleaned up", flush=True)

    class Failing(Node):
        def process(self, data):
            raise ValueError("the lens cap is on")
"""


@pytest.fixture(autouse=True)
def _logging_as_before():
    root = logging.getLogger()
    handlers, level, path = root.handlers[:], root.level, sys.path[:]
    yield
    root.handlers[:], root.level, sys.path[:] = handlers, level, path


@pytest.fixture
def manifest(tmp_path):
    def write(document):
        path = tmp_path / "manifest.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return str(path)

    return write


@pytest.fixture
def calculator(manifest):
    return manifest(CALCULATOR)


def single(node_type, **entry):
    return {"version": "v1", "nodes": [{"id": "node", "node_type": node_type, **entry}], "connections": []}


def errors(capsys):
    return capsys.readouterr().err.strip()


# -- run -------------------------------------------------------------------------------------------------------------


def test_run_prints_one_output_per_line(calculator, capsys):
    assert main(["run", calculator, "--input", "[1, 2.5]"]) == 0
    assert capsys.readouterr().out == "3\n4.5\n"


def test_a_single_item_a_file_and_settings_are_inputs_too(calculator, tmp_path, capsys):
    assert main(["run", calculator, "--input", "1", "--set", "add.operand=10", "--set", "add.operation=subtract"]) == 0
    (tmp_path / "items.json").write_text("[5]")
    assert main(["run", calculator, "--input", f"@{tmp_path / 'items.json'}"]) == 0
    assert capsys.readouterr().out == "-9\n7\n"


def test_the_manifest_can_come_from_standard_input(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(CALCULATOR)))
    assert main(["run", "-", "--input", "[0]"]) == 0
    assert capsys.readouterr().out == "2\n"


def test_json_output_and_metrics(calculator, capsys):
    assert main(["run", calculator, "--input", "[1, 2]", "--json", "--metrics"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["outputs"] == [3, 4]
    assert [(m["node_id"], m["calls"]) for m in document["metrics"]["node_metrics"]] == [("add", 2), ("pass", 2)]
    assert main(["run", calculator, "--input", "[1]", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"outputs": [3]}


def test_metrics_for_people_go_to_stderr(calculator, capsys):
    assert main(["run", calculator, "--input", "[1, 2]", "--metrics"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "3\n4\n"
    head, first, second = captured.err.splitlines()
    assert head.split()[:2] == ["node", "calls"]
    assert first.split()[:2] == ["add", "2"]
    assert second.split()[:2] == ["pass", "2"]


def test_progress_is_off_without_a_terminal_and_on_when_asked_for(calculator, capsys):
    assert main(["run", calculator, "--input", "[1]"]) == 0
    assert errors(capsys) == ""
    assert main(["run", calculator, "--input", "[1]", "--progress"]) == 0
    assert "add 1 frames" in errors(capsys)


@pytest.mark.media
def test_a_media_pipeline_tells_what_it_wrote(tmp_path, manifest, capsys):
    make_clip(tmp_path / "in.mp4", seconds=0.5, width=64, height=48)
    document = single("MediaFileSource", params={"path": str(tmp_path / "in.mp4")})
    document["nodes"].append({"id": "out", "node_type": "MediaFileSink", "params": {"path": "?"}})
    document["connections"].append({"from": "node", "to": "out"})
    arguments = [manifest(document), "--set", f"out.path={tmp_path / 'out.mp4'}"]
    assert main(["run", *arguments, "--json"]) == 0
    (written,) = [json.loads(capsys.readouterr().out)["outputs"]]
    assert (written["frames"], written["streams"]) == (15, ["video", "audio"])
    assert written["bytes"] == (tmp_path / "out.mp4").stat().st_size
    assert main(["run", *arguments]) == 0
    assert "out.mp4: 0." in capsys.readouterr().out


# -- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "part"),
    [
        ("{", "is not JSON"),
        ("[]", "is not an object"),
        ({"nodes": [{"id": "a", "node_type": "PassThroughNode"}]}, "version"),
        ({"version": "v1", "nodes": []}, "no nodes"),
        (single("Calculatornode"), "CalculatorNode"),
        (single("Resize", params={"widht": 3}), "/nodes/0/params"),
        (single("os:system"), "os"),
    ],
)
def test_a_wrong_manifest_is_a_usage_error_in_one_line(manifest, capsys, document, part):
    path = manifest(document)
    for command in (["validate", path], ["run", path]):
        assert main(command) == 2
        text = errors(capsys)
        assert text.startswith("error: ")
        assert part in text
        assert path in text
        assert "Traceback" not in text


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--set", "add=1"], "expected ID.PARAM=VALUE"),
        (["--set", "sub.operand=1"], "no node 'sub'; there are add, pass"),
        (["--input", "[1"], "--input is not JSON"),
        (["--input", "@/no/such/file"], "No such file"),
        (["--executor", "threads"], "there is no executor 'threads'"),
    ],
)
def test_wrong_arguments_say_what_was_expected(calculator, capsys, arguments, part):
    assert main(["run", calculator, *arguments]) == 2
    assert part in errors(capsys)


def test_arguments_that_argparse_refuses_and_help(calculator, capsys):
    assert main([]) == 2
    assert main(["run", calculator, "--color"]) == 2
    assert main(["run", "missing.json"]) == 2
    assert main(["--help"]) == 0
    assert "exit codes:\n  0    done" in capsys.readouterr().out


def test_an_error_of_a_node_is_one_line_and_with_debug_a_traceback(tmp_path, manifest, capsys, monkeypatch):
    (tmp_path / "lens.py").write_text(textwrap.dedent(MY_NODES))
    monkeypatch.chdir(tmp_path)
    path = manifest(single("lens:Failing"))
    assert main(["run", path, "--allow", "lens", "--input", "[1]"]) == 1
    assert errors(capsys).count("\n") == 0
    assert main(["run", path, "--allow", "lens", "--input", "[1]", "--debug"]) == 1
    text = errors(capsys)
    assert 'raise ValueError("the lens cap is on")' in text
    assert "node 'node'" in text.splitlines()[-1]
    assert "the lens cap is on" in text.splitlines()[-1]


def test_a_missing_library_is_the_environments_fault(manifest, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(["run", manifest(single("MediaFileSource", params={"path": "x.mp4"}))]) == 3
    assert "remotemedia[media]" in errors(capsys)


def caused(error, cause):
    error.__cause__ = cause
    return error


WORKER = WorkerIdentity(node="n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x"), 2),
        (ManifestError("x"), 2),
        (NodeProcessError(WORKER, "raised"), 1),
        (caused(NodeInitializeError(WORKER, "raised"), ValueError("no file")), 1),
        (caused(NodeInitializeError(WORKER, "raised"), ModuleNotFoundError("torch")), 3),
        (WorkerStartTimeout(WORKER, "slow"), 3),
        (SharedMemoryExhausted("c", 2, 1), 3),
        (RuntimeError("x"), 1),
    ],
)
def test_exit_codes(error, code):
    assert output.exit_code(error) == code


def test_an_error_shows_its_cause_and_one_hint():
    error = NodeProcessError(WORKER, "raised in process().", suggestion="smaller frames", remote_traceback="a\nb")
    text = output.error_text(caused(error, ValueError("too large\nreally")))
    assert text.splitlines() == [
        "error: node 'n' (worker 0, generation 0) raised in process(). (ValueError: too large)",
        "  Try: smaller frames",
    ]
    assert output.error_text(KeyError()) == "error: KeyError"


# -- the other commands ----------------------------------------------------------------------------------------------


def test_validate_counts_and_draws(manifest, capsys):
    document = json.loads(json.dumps(CALCULATOR))
    document["nodes"][1]["executor"] = "multiprocess"
    path = manifest(document)
    assert main(["validate", path]) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert first == "add   CalculatorNode, inline"
    assert second.startswith("pass  PassThroughNode, multiprocess, ")
    assert second.endswith(" B pickled")
    assert last == "ok: 2 nodes, 1 connections"
    assert main(["validate", path, "--graph", "mermaid"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "flowchart LR",
        '    n0["add<br/>CalculatorNode"]',
        '    n1[["pass<br/>PassThroughNode"]]',
        "    n0 --> n1",
    ]


def test_nodes_lists_every_type_with_its_first_line(capsys):
    assert main(["nodes", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert tuple(listed) == registered_nodes()
    assert all(listed.values())
    assert main(["nodes"]) == 0
    assert any(line.startswith("Resize ") for line in capsys.readouterr().out.splitlines())


def test_version(capsys):
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"remotemedia {remotemedia.__version__}\n"
    assert main(["version", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["remotemedia"] == remotemedia.__version__
    assert facts["libraries"]["numpy"] == np.__version__


def test_clean_reports_what_it_removed(capsys):
    assert main(["clean", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"pools", "files", "bytes"}
    assert main(["clean"]) == 0
    assert "dead pools" in capsys.readouterr().out


def test_what_json_does_not_know_becomes_readable():
    values = {"array": np.zeros((2, 3), np.uint8), "scalar": np.float32(0.5), "set": {1}, "type": int}
    assert json.loads(json.dumps(values, default=output.jsonable)) == {
        "array": {"shape": [2, 3], "dtype": "uint8"}, "scalar": 0.5, "set": [1], "type": "<class 'int'>",
    }  # fmt: skip


def test_logs_as_json_lines_and_for_people(capsys):
    for log_format in ("json", "console"):
        output.configure_logging(log_format, "info")
        logging.getLogger("remotemedia.node.x").warning("low light", extra={"node": "x", "pid": 7})
    as_json, as_text = errors(capsys).splitlines()
    record = json.loads(as_json)
    assert (record["event"], record["level"], record["node"], record["pid"]) == ("low light", "warning", "x", 7)
    assert "low light" in as_text
    assert "\x1b" not in as_text


@pytest.mark.parametrize(
    ("variables", "wanted"), [({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False), ({"FORCE_COLOR": "1"}, True)]
)
def test_colours_follow_the_usual_variables(monkeypatch, variables, wanted):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert output.colours_wanted() is wanted


# -- as a process ----------------------------------------------------------------------------------------------------


def start(*arguments, folder):
    return subprocess.Popen(
        [sys.executable, "-m", "remotemedia", *arguments],
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("number", "code", "last_word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_signal_cleans_up_the_nodes_and_sets_the_exit_code(tmp_path, manifest, number, code, last_word):
    (tmp_path / "my_nodes.py").write_text(textwrap.dedent(MY_NODES))
    with start("run", manifest(single("my_nodes:Endless")), "--allow", "my_nodes", folder=tmp_path) as process:
        assert process.stdout.readline() == "running\n"
        process.send_signal(number)
        out, err = process.stdout.read(), process.stderr.read()  # communicate() forgets what readline() has read ahead
    assert (process.returncode, out.splitlines()[-1], err.strip()) == (code, "cleaned up", last_word)
    assert set(out.splitlines()[:-1]) <= {"1"}  # outputs come out as they are made


def test_a_reader_that_goes_away_is_no_traceback(tmp_path, manifest):
    items = json.dumps(["x" * 1000] * 200)
    (tmp_path / "items.json").write_text(items)
    with start("run", manifest(single("PassThroughNode")), "--input", "@items.json", folder=tmp_path) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 1
