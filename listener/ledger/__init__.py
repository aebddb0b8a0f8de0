"""The ledger: the record of every series and every set-aside file in the state directory, and the seam for stages."""
