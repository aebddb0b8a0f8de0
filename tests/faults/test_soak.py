"""(being written) hostile input, fuzz and soak."""
