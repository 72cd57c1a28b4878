"""Payment sagas as read, for operations."""
