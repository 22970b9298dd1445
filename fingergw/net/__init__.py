"""What goes out or may hang: hosts, HTTP, finger, programs, files that change, workers."""
