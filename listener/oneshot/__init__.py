"""`once` and `repack`: work through the files that are there, and leave."""
