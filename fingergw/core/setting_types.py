"""The types that a key can have, besides ``str``, ``bool``, ``int``, ``float``, and lists and tables of these.

The type decides which values are accepted, and how a file or a program that the key names is checked and used.
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
"""The exit code of a process that failed, 1 to 255."""
Status = NewType("Status", int)
"""An HTTP status, 100 to 599."""
Umask = NewType("Umask", int)
"""A file creation mask; in the configuration a string of octal digits."""
Account = NewType("Account", str)
"""The name or number of a user or group of this machine."""

Glob = NewType("Glob", str)
"""A shell-style pattern."""
Regex = NewType("Regex", str)
"""A pattern in RE2 syntax."""
UserName = NewType("UserName", str)
"""A user name that a query can have."""
Name = NewType("Name", str)
"""A user name as the key of a table; unless names are case-sensitive, no two may differ only in case."""
HostName = NewType("HostName", str)
"""A host name or address that a query can have."""
HeaderName = NewType("HeaderName", str)
"""A header's name (RFC 9110 §5.1)."""
Line = NewType("Line", str)
"""A text in one line, without control characters."""
HeaderValue = NewType("HeaderValue", str)
"""A header's value, in one line."""
Variable = NewType("Variable", str)
"""The name of an environment variable."""
Store = NewType("Store", str)
"""The address of the store of cached answers."""

Url = NewType("Url", Template)
"""An http or https URL with placeholders after the host."""
Jinja = NewType("Jinja", str)
"""A Jinja2 template, which is compiled once as a check; a ``max_bytes`` in the same table bounds its result."""

FilePath = NewType("FilePath", Path)
"""A path; in the configuration it may be relative to the configuration file."""
SecretFile = NewType("SecretFile", Path)
"""A file with one secret, which other users can neither read nor write; it is read again when it changes."""
WatchedFile = NewType("WatchedFile", Path)
"""A file that is read again when it changes: a text, or a TOML table of the type that its key ``holds``."""
AuthoritiesFile = NewType("AuthoritiesFile", Path)
"""A PEM file of authorities to trust for TLS, read again when it changes."""
FILES: Final[tuple[Any, ...]] = (SecretFile, WatchedFile, AuthoritiesFile)
"""The types of files that are read, and read again when they change."""
ProgramPath = NewType("ProgramPath", str)
"""A program: its path, or a name to look up on the PATH."""
Argv = NewType("Argv", tuple[Template, ...])
"""A program and its arguments; only the arguments may have placeholders."""
