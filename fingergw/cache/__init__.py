"""Answers kept for a time: fresh, stale, coalesced. Free of Twisted: clocks, Deferreds and stores are arguments."""
