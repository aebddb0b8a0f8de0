"""`listener bench`: the cost of intake on this machine, beside the programs that it replaces."""
