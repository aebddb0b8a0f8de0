"""`listener check`: what is wrong with this set-up, and the remedy."""
