"""What a request has caused, over all services."""
