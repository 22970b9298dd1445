"""Targets for fuzzing what reads the words of strangers; ``python -m tests.fuzz`` fuzzes one, guided by coverage."""
