"""The event store on PostgreSQL, standing on the ``eventsourcing`` library's recorders."""
