"""What a command was asked to print."""

from __future__ import annotations

import os
import sys

from fingergw.cli.options import complain


def show(text: str) -> int:
    """Print a text that another program may read, whatever this one's locale is.

    :return: the exit code: 0, or 1 if nobody takes it, which is said.
    """
    try:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8")
        print(text, end="", flush=True)
    except OSError as error:
        complain(f"standard output: {error.strerror}; send it to where there is room")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would complain of what it cannot flush
        return 1
    return 0
