"""Processes that convert what may take any time and memory, and can be killed."""
