"""The installation on this machine: how a program finds its settings, a running `celeriac up`, and private files."""
