"""The command line."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, with signals handled from the first.

    :param arguments: default: the process's own.
    :return: the exit code: 0, 1 for a failure, 2 for wrong usage, 78 for a mistake in the configuration.
    """
    from fingergw.app import signals

    signals.hold()
    try:
        from fingergw.cli.command import main as run

        return run(arguments)
    finally:
        signals.forget()
