"""The dashboard and the API reference, as plain files that a browser runs without a build."""
