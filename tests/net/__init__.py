"""Tests of fingergw.net."""
