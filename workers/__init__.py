"""Worker processes: start, watch, stop, clean up after them."""
