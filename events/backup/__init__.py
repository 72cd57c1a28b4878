"""Backup and restore of the event stores: snapshot, manifest, restore, and rolling forward from Kafka."""
