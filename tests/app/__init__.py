"""Tests of fingergw.app."""
