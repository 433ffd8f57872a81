"""The commands of `celeriac`, one module per noun."""
