"""The .proto files of Celeriac and the code generated from them."""

from importlib.util import find_spec

if find_spec("grpc") is None:
    raise ImportError(
        "celeriac_proto needs the package grpcio, which is not installed: run pip install 'celeriac[server]'"
    )
