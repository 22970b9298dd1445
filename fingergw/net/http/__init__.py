"""HTTP as a client: one request, within bounds."""
