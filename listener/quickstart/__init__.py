"""`make run`: storescp and listener side by side, and a synthetic series to send."""
