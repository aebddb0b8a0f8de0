"""The images: built twice, run hardened, stopped with work in flight."""
