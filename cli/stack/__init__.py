"""The local stack: real PostgreSQL, Kafka, Valkey and Elasticsearch without Docker, and who watches them."""
