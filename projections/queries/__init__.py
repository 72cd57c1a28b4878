"""Reading views: pages, consistency, and what can be asked of each."""
