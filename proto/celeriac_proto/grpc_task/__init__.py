"""The executor protocol of `grpc_task`, by version."""
