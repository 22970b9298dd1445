"""Tests of fingergw.finger."""
