"""An HTTP client: single requests, within bounds."""
