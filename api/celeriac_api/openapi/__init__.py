"""The OpenAPI document: schemas, examples, and what routes say of their responses."""
