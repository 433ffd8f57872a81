"""Groups and limits: the services that list, pause and resume groups, and set rules. Front doors use them."""
