"""Tests of fingergw.listen."""
