"""Tell a ChRIS of what was taken in: progress over NATS, and series that CUBE, its backend, registers."""
