"""Backups of real stores, restored and rolled forward on real servers."""
