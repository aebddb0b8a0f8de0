"""What an operator sees: events, metrics, health, pages, and which series are complete."""
