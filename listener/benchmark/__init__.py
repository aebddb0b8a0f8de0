"""`listener bench`: what intake costs on this machine, side by side with the programs it takes over from."""
