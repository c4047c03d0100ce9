"""What the threads of this process are doing, as text."""

from __future__ import annotations

import sys
import threading


def python_stacks(*, most_bytes: int, own: bool = False) -> str:
    """The Python stacks of all threads, the main thread first, innermost calls last. `own`: of the calling one, too."""
    import traceback

    names = {thread.ident: thread.name for thread in threading.enumerate()}
    main = threading.main_thread().ident
    parts = []
    for ident, frame in sorted(sys._current_frames().items(), key=lambda item: item[0] != main):
        if own or ident != threading.get_ident():
            parts.append(f"Thread {names.get(ident, ident)}:\n" + "".join(traceback.format_stack(frame)))
    text = "\n".join(parts).rstrip()
    return text.encode(errors="backslashreplace")[:most_bytes].decode(errors="ignore")
