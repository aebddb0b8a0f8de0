"""The stage route: each instance to the right worker, a study always to the same one. So far its rules alone."""
