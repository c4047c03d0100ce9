"""`remotemedia completion`: the script with which a shell completes this command line."""

from __future__ import annotations

import argparse

from remotemedia.cli import output

HELP = "print a shell's completion script"
DESCRIPTION = "Print the script with which a shell completes commands, options and file names."
EPILOG = """\
examples:
  remotemedia completion bash > ~/.local/share/bash-completion/completions/remotemedia
  remotemedia completion zsh > ~/.zfunc/_remotemedia           (a folder of $fpath)
"""
_FILES = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
_TAKE_FILES = {"pipeline", "file", "output", "input"}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"])


def run(arguments: argparse.Namespace) -> int:
    from remotemedia.cli.parser import build_parser

    try:
        import shtab
    except ImportError as error:
        raise ImportError("completion scripts are made by shtab: pip install 'remotemedia[cli]'") from error
    parser = build_parser()
    for action in parser.all_actions():
        if action.dest in _TAKE_FILES:
            setattr(action, "complete", _FILES)  # noqa: B010 - argparse does not know it; shtab looks there
    output.say(shtab.complete(parser, shell=arguments.shell))
    return output.OK
