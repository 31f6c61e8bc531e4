"""Other ways to serve the same whole network, and our own server with one thing changed."""
