"""The verbs of the command line, a module each, found by name (listener.verbs); a leading underscore marks a helper."""
