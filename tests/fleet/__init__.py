"""Real hosts on one machine, that run systemd on a private bridge, and what the tests of a fleet do with them."""
