"""Where clients come in: endpoint strings, sockets, TLS."""
