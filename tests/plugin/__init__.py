"""Backends of other people's packages."""
