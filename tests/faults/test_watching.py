"""(being written) test_watching: scenarios of volumes and watching against the real service."""
