"""The .proto files of Celeriac and the code generated from them."""
