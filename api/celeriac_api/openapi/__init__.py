"""The OpenAPI document: schemas, examples, and the responses of routes."""
