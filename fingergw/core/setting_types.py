"""The types that a key can have, beside ``str``, ``bool``, ``int``, ``float``, and lists and tables of these.

What the configuration makes of a value, what it refuses, and what it does with a file or a program, goes by the type.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NewType

from fingergw.core.placeholders import Template

Seconds = NewType("Seconds", float)
"""A duration above 0."""
Period = NewType("Period", float)
"""A duration of 0 or more."""
Bytes = NewType("Bytes", int)
"""A size above 0."""
Count = NewType("Count", int)
"""A number above 0."""
Port = NewType("Port", int)
"""A TCP port, 1 to 65535."""
ExitCode = NewType("ExitCode", int)
"""What a process exits with when it failed, 1 to 255."""
Status = NewType("Status", int)
"""An HTTP status, 100 to 599."""
Umask = NewType("Umask", int)
"""A file creation mask; in the configuration a string of octal digits."""

Glob = NewType("Glob", str)
"""A shell-style pattern."""
Regex = NewType("Regex", str)
"""A pattern in RE2 syntax."""
UserName = NewType("UserName", str)
"""A name as a query can have it."""
Name = NewType("Name", str)
"""The key of a table that has something for each name; no two may be the same where case does not count."""
HostName = NewType("HostName", str)
"""A host's name or address, as a query can have it."""
HeaderName = NewType("HeaderName", str)
"""A header's name (RFC 9110 §5.1)."""
HeaderValue = NewType("HeaderValue", str)
"""A header's value, in one line."""
Variable = NewType("Variable", str)
"""The name of an environment variable."""
Store = NewType("Store", str)
"""Where cached answers are kept."""

Url = NewType("Url", Template)
"""An http or https URL with placeholders after the host."""
Jinja = NewType("Jinja", str)
"""A Jinja2 template, that is tried out before it is used; a ``max_bytes`` beside it is of what it makes."""

FilePath = NewType("FilePath", Path)
"""A path; in the configuration it may be relative to the configuration file."""
SecretFile = NewType("SecretFile", Path)
"""A file with one secret, which others can neither read nor write; its text is read again when it changes."""
WatchedFile = NewType("WatchedFile", Path)
"""A file that is read again when it changes: a text, or TOML that holds what its key says."""
AuthoritiesFile = NewType("AuthoritiesFile", Path)
"""A PEM file of authorities to trust for TLS, read again when it changes."""
FILES: Final[tuple[Any, ...]] = (SecretFile, WatchedFile, AuthoritiesFile)
"""The types of files that are read, and read again when they change."""
ProgramPath = NewType("ProgramPath", str)
"""A program: its path, or what to look for on the PATH."""
Argv = NewType("Argv", tuple[Template, ...])
"""A program and its arguments, if any; the program has no placeholders."""
