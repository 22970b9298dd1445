"""Tests of fingergw.backends."""
