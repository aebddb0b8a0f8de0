"""The service `run`: what arrives, is handed to workers, and what becomes of it."""
