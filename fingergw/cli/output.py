"""What a command prints."""

from __future__ import annotations

import os
import sys

from fingergw.core.text import printable


def complain(text: str) -> None:
    """Print what is wrong on standard error."""
    # twistd has replaced sys.stderr by its log when most things go wrong
    print("fingergw: " + printable(text, kept="\n"), file=sys.__stderr__)


def show(text: str, *, for_people: bool = False) -> int:
    """Print a command's result on standard output.

    :param for_people: print in the locale's charset, with "?" for what that lacks; else in UTF-8 whatever the locale
        is, for another program.
    :return: the exit code: 0, or 1 if it could not be printed. A full disk is reported, a reader that has gone is not.
    """
    try:
        if hasattr(sys.stdout, "reconfigure"):
            # a path may be other bytes than UTF-8
            how = {"errors": "replace"} if for_people else {"encoding": "utf-8", "errors": "surrogateescape"}
            sys.stdout.reconfigure(**how)
        print(text, end="", flush=True)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            complain(f"standard output: {error.strerror}; redirect it to a disk with free space")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would report what it cannot flush
        return 1
    return 0
