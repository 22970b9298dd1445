"""Tests of fingergw.config."""
