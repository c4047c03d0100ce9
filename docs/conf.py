"""How the site is made of the pages in this folder: Sphinx, MyST for Markdown, furo. Nothing comes from the network."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import remotemedia

project = "remotemedia"
author = "the remotemedia developers"
version = release = remotemedia.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"remotemedia {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .gp, .go"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}
autoclass_content = "both"
autodoc_inherit_docstrings = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False

# Types of other libraries, whose documentation is not at hand without the network, and type variables.
nitpick_ignore_regex = [
    ("py:.*", r"(asyncio|collections|contextlib|fractions|logging|numpy|np|npt|os|pathlib|types|typing)\..*"),
    ("py:.*", r"(remotemedia\..*\.)?[NPT]"),
]

# -- navigation --------------------------------------------------------------------------------------------------------


def _add_the_rest(app: Any, docname: str, source: list[str]) -> None:
    """Pages beside index.md that its lists do not name: a checkout has them, or has not, with the part they are for."""
    if docname == "index":
        named = {"index", *re.findall(r"^[\w/-]+$", source[0], re.MULTILINE)}
        rest = sorted(path.stem for path in Path(app.srcdir).glob("*.md") if path.stem not in named)
        source[0] = source[0].replace("(all other pages)\n", "".join(f"{name}\n" for name in rest))


# -- docstrings --------------------------------------------------------------------------------------------------------
# They are plain text for people who read code: names in single backticks, examples indented. Sphinx wants two
# backticks, and two colons before an example.

_NAME = re.compile(r"(?<![`:\w])`([^`\n]+)`(s)?(?![`_\w])")


def _to_rst(_app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    found: list[str] = []
    in_example = False
    for line in lines:
        if line.startswith("    ") and not in_example and (not found or not found[-1].strip()):
            found += ["::", ""]
            in_example = True
        elif line.strip() and not line.startswith("    "):
            in_example = False
        found.append(line if in_example else _NAME.sub(_linked, line.replace("|", r"\|")))
    lines[:] = found


def _linked(match: re.Match[str]) -> str:
    name, plural = match[1], r"\ s" if match[2] else ""
    is_public = name in remotemedia.__all__ and name not in {"__version__", "node"}  # a node is also an attribute
    return (f":py:obj:`~remotemedia.{name}`" if is_public else f"``{name}``") + plural


# What numpy's names for "an array" and "what can be a dtype" stand for, in full.
_ARRAY = re.compile(r"~?numpy\.ndarray\[tuple\[~?typing\.Any, \.\.\.\], ~?numpy\.dtype\[~?typing\.Any\]\]")
_DTYPE = re.compile(r"type\[~?typing\.Any\] \| .*?_DTypeDict \| str")


def _short(signature: str | None) -> str | None:
    return signature and _DTYPE.sub("numpy.typing.DTypeLike", _ARRAY.sub("numpy.ndarray", signature))


def _signature(
    _app: Any, _what: str, _name: str, _described: Any, _options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """A default that dataclasses show as `<factory>` is no Python, and the whole signature is not understood then."""
    return _short(signature and signature.replace("<factory>", "...")), _short(returns)


def setup(app: Any) -> None:
    app.connect("source-read", _add_the_rest)
    app.connect("autodoc-process-docstring", _to_rst)
    app.connect("autodoc-process-signature", _signature)
