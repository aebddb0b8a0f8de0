"""What an operator sees: events, metrics, health and the HTTP server."""
