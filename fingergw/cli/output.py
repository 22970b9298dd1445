"""What a command was asked to print."""

from __future__ import annotations

import os
import sys

from fingergw.cli.options import complain


def show(text: str, *, for_people: bool = False) -> int:
    """Print a text.

    :param for_people: print it in the locale's charset, and "?" for what that lacks; else in UTF-8, whatever the locale
        is, for another program.
    :return: the exit code: 0, or 1 if nobody takes it; that there is no room is said.
    """
    try:
        if hasattr(sys.stdout, "reconfigure"):
            # a path may be other bytes than UTF-8
            how = {"errors": "replace"} if for_people else {"encoding": "utf-8", "errors": "surrogateescape"}
            sys.stdout.reconfigure(**how)
        print(text, end="", flush=True)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # whoever reads has enough
            complain(f"standard output: {error.strerror}; send it to where there is room")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would complain of what it cannot flush
        return 1
    return 0
