"""What decides of a query, without Twisted: clocks, files and clients are arguments."""
