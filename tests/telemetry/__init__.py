"""Tests of fingergw.telemetry."""
