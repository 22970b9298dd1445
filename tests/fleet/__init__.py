"""Containers that boot systemd on a private bridge, and the tests that deploy gateways to them."""
