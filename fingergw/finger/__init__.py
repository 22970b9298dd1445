"""The finger protocol, for one connection and for all of a listener's."""
