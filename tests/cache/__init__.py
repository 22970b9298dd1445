"""Tests of fingergw.cache."""
