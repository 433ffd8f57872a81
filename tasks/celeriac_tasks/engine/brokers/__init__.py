"""Where messages lie: the transport on the store, connections, and a broker beside the store with its outbox."""
