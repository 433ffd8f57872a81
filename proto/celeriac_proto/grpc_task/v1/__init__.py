"""Version 1: `task.proto` and the code generated from it by `tools/generate_proto.py`."""
