"""Over HTTP: through the API of a server, with the wire of the Python client. It needs neither store nor database."""
