"""Configurations that several tests have."""

from __future__ import annotations

# routes and backends that answer the name "hello"
HELLO = """
[[routes]]
user = "hello"
backends = ["map"]
[backends.map]
type = "static"
entries = { hello = "Hello" }
"""
