"""Files, directories and documents on disk, and how to move and sync them."""
