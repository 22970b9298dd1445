"""Tests of fingergw.core."""
