"""Tests of fingergw.cli."""
