"""Task control: what keeps definitions, fires them, and follows their instances to the end."""
