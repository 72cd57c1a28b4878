"""Contracts as documents: JSON Schema, AsyncAPI, OpenAPI and the reference pages, all generated from the code."""
