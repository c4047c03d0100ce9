"""Pipelines from modules and files, outputs and recordings in files, and what validate finds."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from remotemedia.cli import main, validate
from remotemedia.recording import Recording
from remotemedia.workers import running

APP = """
    import threading
    import numpy as np
    from remotemedia import AudioFrame, Node, Pipeline

    class Tone(Node):
        def __init__(self, count=3, **options):
            super().__init__(count=count, **options)
            self.count = count

        def process(self):
            for number in range(self.count):
                yield AudioFrame(array=np.full((4, 1), number, np.float32), pts=number)

    class Peak(Node):
        def process(self, frame):
            return float(frame.array.max())

    class Endless(Node):
        def process(self):
            number = 0
            while True:
                yield number
                number += 1

    class Locked(Node):
        def __init__(self, **options):
            super().__init__(**options)
            self.lock = threading.Lock()

        def process(self, data):
            return data

    class Double(Node):
        def process(self, data):
            return data * 2

    tone = Pipeline([Tone()])
    peaks = [Peak(name="peak")]
    doubles = Double(name="double")
    locked = [Double(), Locked(name="locked")]
    endless = [Endless()]

    def make():
        return Pipeline([Double(name="one"), Double(name="two")])
"""


@pytest.fixture(autouse=True)
def app(tmp_path, monkeypatch):
    """A module `cli_app` in the present folder."""
    (tmp_path / "cli_app.py").write_text(textwrap.dedent(APP))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield tmp_path
    sys.modules.pop("cli_app", None)


def printed(capsys):
    return capsys.readouterr().out.splitlines()


# -- run -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["cli_app:doubles", "cli_app.py:doubles", "./cli_app.py:doubles"])
def test_a_pipeline_may_be_an_object(target, capsys):
    assert main(["run", target, "--input", "[1, 2]"]) == 0
    assert printed(capsys) == ["2", "4"]


def test_a_pipeline_may_be_made_by_a_function(capsys):
    assert main(["run", "cli_app:make", "--input", "1"]) == 0
    assert printed(capsys) == ["4"]
    assert main(["run", "cli_app:made"]) == 2
    assert "cli_app has no 'made'; did you mean 'make'?" in capsys.readouterr().err
    assert main(["run", "cli_app:xyz"]) == 2
    assert "cli_app has no 'xyz'; its pipelines: tone" in capsys.readouterr().err
    assert main(["run", "cli_app:make", "--set", "one.x=1"]) == 2
    assert "--set changes parameters in a manifest" in capsys.readouterr().err


def test_classes_of_a_file_travel_to_worker_processes(capsys):
    assert main(["run", "cli_app.py:make", "--input", "[1, 2]", "--executor", "multiprocess", "--restarts", "1"]) == 0
    assert printed(capsys) == ["4", "8"]


def test_input_from_standard_input_json_lines_and_what_is_neither(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n\n2\n"))
    assert main(["run", "cli_app:doubles", "--input", "@-"]) == 0
    (tmp_path / "items.jsonl").write_text('"a"\n"b"\n')
    assert main(["run", "cli_app:doubles", "--input", "@items.jsonl"]) == 0
    assert printed(capsys) == ["2", "4", "aa", "bb"]
    (tmp_path / "items.jsonl").write_text('"a"\n{b\n')
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for given, told in [("@items.jsonl", "line 2 of items.jsonl"), ("@binary", "neither JSON nor a recording"),
                        ("binary", "@FILE reads a file")]:  # fmt: skip
        assert main(["run", "cli_app:doubles", "--input", given]) == 2
        assert told in capsys.readouterr().err


def test_outputs_go_to_a_file_by_its_kind(capsys, tmp_path):
    for name, text in [("o.json", "[\n2,\n4\n]\n"), ("o.jsonl", "2\n4\n"), ("o.ndjson", "2\n4\n")]:
        assert main(["run", "cli_app:doubles", "--input", "[1, 2]", "--output", name]) == 0
        assert (tmp_path / name).read_text() == text
        assert main(["run", "cli_app:doubles", "--input", "[]", "--output", name]) == 0
        assert (tmp_path / name).read_text().split() in ([], ["[", "]"])
    assert main(["run", "cli_app:doubles", "--input", "[1, 2]", "--output", "o.rmf", "--json", "--metrics"]) == 0
    assert [value for _, value in Recording("o.rmf")] == [2, 4]
    assert list(json.loads(printed(capsys)[-1])) == ["metrics"]
    assert main(["run", "cli_app:doubles", "--input", "1", "--output", "/no/such/folder/o.rmf"]) == 2
    assert "cannot write /no/such/folder/o.rmf: No such file" in capsys.readouterr().err


# -- record and replay -----------------------------------------------------------------------------------------------


def test_record_list_and_replay(capsys, tmp_path):
    assert main(["record", "tone.rmf", "cli_app:tone"]) == 0
    assert printed(capsys)[0].startswith("tone.rmf: 3 frames, ")
    assert main(["record", "tone.rmf", "cli_app:tone", "--force", "--frames", "2", "--json"]) == 0
    facts = json.loads(printed(capsys)[0])
    assert facts == {"file": "tone.rmf", "frames": 2, "bytes": (tmp_path / "tone.rmf").stat().st_size}
    assert main(["replay", "tone.rmf"]) == 0
    first, second = printed(capsys)
    assert first.split()[0] == "0"
    assert first.endswith("s  AudioFrame 4x1 float32  pts 0 (0.000 s)")
    assert second.endswith("pts 1 (0.001 s)")
    assert main(["replay", "tone.rmf", "--json", "--frames", "1"]) == 0
    assert json.loads(printed(capsys)[0])["value"]["pts"] == 0
    for more in ([], ["--speed", "1000"], ["--executor", "multiprocess"]):
        assert main(["replay", "tone.rmf", "cli_app:peaks", *more]) == 0
        assert printed(capsys) == ["0.0", "1.0"]
    assert main(["replay", "tone.rmf", "cli_app:peaks", "--output", "peaks.jsonl"]) == 0
    assert (tmp_path / "peaks.jsonl").read_text() == "0.0\n1.0\n"
    assert main(["run", "cli_app:peaks", "--input", "@tone.rmf"]) == 0
    assert printed(capsys) == ["0.0", "1.0"]


def test_what_cannot_be_recorded_is_told(capsys):
    assert main(["record", "x.rmf", "json:JSONDecoder"]) == 2
    assert "is no pipeline" in capsys.readouterr().err
    assert main(["replay", "x.rmf", "--speed", "-1"]) == 2
    assert "greater than 0" in capsys.readouterr().err


def test_what_was_recorded_until_a_signal_can_be_read(tmp_path):
    command = [sys.executable, "-m", "remotemedia", "record", "endless.rmf", "cli_app:endless"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        path = tmp_path / "endless.rmf"
        while not (path.exists() and path.stat().st_size > 10_000):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.communicate()[1].strip() == "terminated"
    assert process.returncode == 143
    recording = Recording(path)
    assert [value for _, value in recording][:100] == list(range(100))
    assert recording.complete


# -- validate --------------------------------------------------------------------------------------------------------


def test_validate_tells_what_does_not_travel(capsys):
    assert main(["validate", "cli_app:locked"]) == 0
    assert main(["validate", "cli_app:locked", "--executor", "multiprocess"]) == 2
    captured = capsys.readouterr()
    assert "locked.lock" in captured.err.splitlines()[0]
    assert captured.err.splitlines()[1].startswith("  Try: ")
    assert captured.out.count("ok: ") == 1  # of the first
    assert main(["validate", "cli_app:locked", "--executor", "multiprocess", "--json"]) == 2
    facts = json.loads(printed(capsys)[0])
    assert not facts["ok"]
    assert len(facts["problems"]) == 1
    assert [node["executor"] for node in facts["nodes"]] == ["multiprocess", "multiprocess"]
    assert facts["nodes"][0]["pickled_bytes"] > 0
    assert facts["nodes"][1]["pickled_bytes"] is None
    assert main(["validate", "cli_app:make", "--executor", "threads"]) == 2


def test_validate_weighs_the_shared_memory(capsys, monkeypatch):
    arguments = ["validate", "cli_app:make", "--executor", "multiprocess", "--budget"]
    for size in ("1MB", "2000KB", "6.2MB"):
        assert main([*arguments, size]) == 0
    assert main(arguments) == 0
    needs = [line for line in printed(capsys) if line.startswith("shared memory of 3 channels: ")]
    assert len(needs) == 4
    assert needs[0] == needs[3]
    assert "with frames of 6.2 MB" in needs[2]
    assert main([*arguments, "1MB", "--json"]) == 0
    budget = json.loads(printed(capsys)[0])["shared_memory"]
    assert 0 < budget["least"] < budget["most"]
    monkeypatch.setattr("remotemedia.ipc.shm_memory.free_shared_memory", lambda: budget["least"] + 1)
    assert main([*arguments, "1MB"]) == 0
    assert "warning: in the worst case it does not fit" in capsys.readouterr().err
    monkeypatch.setattr("remotemedia.ipc.shm_memory.free_shared_memory", lambda: budget["least"] - 1)
    assert main(arguments[:-1]) == 3
    assert "error: the channels need" in capsys.readouterr().err
    assert main(["validate", "cli_app:make", "--budget"]) == 2


def test_validate_draws_for_graphviz(capsys):
    assert main(["validate", "cli_app:make", "--graph", "dot"]) == 0
    assert printed(capsys)[3:] == [
        '    n0 [label="one\\nDouble"];', '    n1 [label="two\\nDouble"];', "    n0 -> n1;", "}",
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "size"), [("1", 1), ("640KB", 640_000), ("6.2 MB", 6_200_000), ("1GiB", 2**30)])
def test_sizes(text, size):
    assert validate._size(text) == size


# -- clean -----------------------------------------------------------------------------------------------------------


def test_a_dry_run_of_clean_counts_dead_pools_only(capsys, monkeypatch):
    class Dead(running.PoolPlace):
        def shared_memory(self):
            return 4, 1_500_000

    places = [Dead("00", None, alive=False), Dead("01", None, alive=True), Dead("02", None, alive=False)]
    monkeypatch.setattr(running, "find_pools", lambda: places)
    assert main(["clean", "--dry-run"]) == 0
    assert printed(capsys) == ["would remove 2 dead pools, 8 files, 3.0 MB of memory"]
    assert main(["clean", "--dry-run", "--json"]) == 0
    assert json.loads(printed(capsys)[0]) == {"pools": 2, "files": 8, "bytes": 3_000_000}


def test_one_node_type_is_shown_in_full(capsys):
    assert main(["nodes", "CalculatorNode"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("CalculatorNode  (remotemedia.nodes.basic:CalculatorNode)")
    assert "  operation (" in text
    assert '"node_type": "CalculatorNode"' in text
    assert main(["nodes", "CalculatorNode", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {"operation", "operand"} <= {parameter["name"] for parameter in facts["parameters"]}
