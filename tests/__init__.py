"""The tests, what they share, and the benchmarks."""
