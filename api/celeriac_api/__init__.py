"""The HTTP and gRPC front doors of Celeriac: they translate, and do nothing else."""

from celeriac.extras import need

need(__name__, "fastapi", "grpc", extra="server")
