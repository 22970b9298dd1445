"""Cached answers: fresh ones, stale ones that are refreshed, and one question to the backend for many queries."""
