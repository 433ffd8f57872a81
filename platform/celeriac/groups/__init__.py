"""Groups: the service that lists, pauses, resumes and limits them. Front doors use it; it uses the store."""
