"""Ask HAProxy's master process whether the last configuration that it was given is in force; exit with 1 if not."""

import socket
import sys

with socket.socket(socket.AF_UNIX) as asked:
    asked.settimeout(5)
    asked.connect("/run/haproxy-master.sock")
    asked.sendall(b"show proc\n")
    asked.shutdown(socket.SHUT_WR)
    processes = asked.makefile().read()
if "[failed: 0]" not in processes:
    sys.exit(
        "HAProxy goes on with its configuration before, as it could not load this one: see journalctl -u haproxy -e"
    )
