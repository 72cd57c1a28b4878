"""The search index: a mirror of PostgreSQL rows in Elasticsearch."""
