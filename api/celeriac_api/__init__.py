"""The HTTP and gRPC front doors of Celeriac: they translate, and do nothing else."""
