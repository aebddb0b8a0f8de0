"""The floor for stages: programs that follow one collection through its ledger. The core imports none of it."""
