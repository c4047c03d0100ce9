"""The page as it is sent: one document with its style and its program in it, and the rule that nothing else may run."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources.abc import Traversable
from typing import NamedTuple, Self


class Page(NamedTuple):
    """The document, and the headers that go with it."""

    html: bytes
    headers: dict[str, str]

    @classmethod
    def load(cls, folder: Traversable) -> Self:
        """From page.html, page.css and page.js. The browser runs the two that were put in, known by their hashes."""
        html, style, script = (
            (folder / f"page.{kind}").read_text(encoding="utf-8").strip() for kind in ("html", "css", "js")
        )
        document = html.replace("/* page.css */", style).replace("/* page.js */", script)
        policy = (
            f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        headers = {
            "Content-Security-Policy": policy,
            "Referrer-Policy": "no-referrer",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        return cls(document.encode(), headers)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
