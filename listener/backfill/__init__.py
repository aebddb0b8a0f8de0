"""`listener once --part`: a share of an archive, by one of many processes; accounts that add up to what was listed."""
