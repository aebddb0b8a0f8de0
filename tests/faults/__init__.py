"""Every fault of the matrix in docs/reliability.md, injected: killed, refused, cut off, filled up, lied to."""
