"""docs/commands.md and the command line say the same; help, errors and completion of every command."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from remotemedia.cli import main
from remotemedia.cli.parser import build_parser, commands

DOCS = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
ROOT_README = (Path(__file__).parents[2] / "README.md").read_text()


def options_of(name):
    parser = build_parser()
    (subparsers,) = [action for action in parser._actions if hasattr(action, "choices") and action.choices]
    return {text for action in subparsers.choices[name]._actions for text in action.option_strings}


def section(name):
    start = DOCS.index(f"## `remotemedia {name}`")
    return DOCS[start:].split("\n## ", 2)[0]


def test_every_command_has_its_section_and_no_other_has():
    assert re.findall(r"^## `remotemedia (\w+)`$", DOCS, re.MULTILINE) == list(commands())


@pytest.mark.parametrize("text", [DOCS, ROOT_README], ids=["commands.md", "README"])
def test_every_command_that_is_named_exists(text):
    named = set(re.findall(r"(?:`|\$ |-m )remotemedia ([a-z]+)\b", text))
    assert named <= set(commands())


@pytest.mark.parametrize("name", list(commands()))
def test_every_option_that_is_named_exists(name):
    assert set(re.findall(r"(--[a-z][a-z-]*)", section(name))) <= options_of(name)


def examples():
    texts = [DOCS, *(getattr(module, "EPILOG", "") for module in commands().values()), build_parser().format_help()]
    lines = [line for text in texts for line in re.findall(r"^(?:\$| ) *(remotemedia .*)", text, re.MULTILINE)]
    return sorted({re.split(r" {3,}| [|>] ", line)[0] for line in lines if "COMMAND" not in line})


@pytest.mark.parametrize("line", examples())
def test_every_example_is_accepted(line):
    assert build_parser().parse_args(shlex.split(line)[1:]).command


@pytest.mark.parametrize("name", list(commands()))
def test_help_of_every_command(name, capsys):
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert "exit codes:" in out
    assert max(map(len, out.splitlines())) <= 120
    for option in options_of(name):
        assert option in out


def test_the_first_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert [name for name in commands() if not re.search(rf"^  {name} +\w", out, re.MULTILINE)] == []
    assert main(["--version"]) == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "error: which command? There are run, validate"),
        (["tpo"], "did you mean top?"),
        (["xyzzy"], "there are run, validate"),
        (["run"], "required: pipeline"),
        (["run", "x.json", "--exectuor", "inline"], "did you mean --executor?"),
        (["validate", "x.json", "--budget", "many"], "'many' is no size: write 640KB, 6.2MB or 1GiB"),
        (["top", "--interval", "0"], "expected seconds greater than 0"),
        (["nodes", "Resiz"], "did you mean Resize?"),
        (["run", "pipeline"], "expected a manifest file (pipeline.json), module:pipeline, or file.py:pipeline"),
        (["run", "no_such_module:x"], "there is no module 'no_such_module' in this folder"),
        (["run", "no_such.py:x"], "there is no file no_such.py"),
        (["run", "json:dumbs"], "did you mean 'dumps'?"),
        (["run", "json:decoder"], "is no pipeline"),
        (["record", __file__, "json:x"], "exists; --force writes over it"),
        (["record", "/tmp/x.rmf", "json:x", "--frames", "0"], "expected at least 1"),
        (["replay", __file__], "is no recording: make one with `remotemedia record`"),
        (["replay", "/no/such"], "No such file"),
        (["completion", "fish"], "invalid choice: 'fish'"),
    ],
)  # fmt: skip
def test_bad_input_is_a_line_that_says_what_to_type(arguments, told, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[0].startswith("error: ")
    assert told in lines[0]
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("  Try: remotemedia"))


def test_completion_scripts_name_every_command(capsys):
    for shell in ("bash", "zsh", "tcsh"):
        assert main(["completion", shell]) == 0
        script = capsys.readouterr().out
        assert [name for name in commands() if name not in script] == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes(capsys):
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    ask = "\nCOMP_WORDS=(remotemedia val); COMP_CWORD=1; _shtab_remotemedia; printf '%s\\n' \"${COMPREPLY[@]}\""
    done = subprocess.run(["bash", "-c", script + ask], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["validate"], done.stderr


def test_without_shtab_or_rich_the_extra_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 3
    assert "pip install 'remotemedia[cli]'" in capsys.readouterr().err
