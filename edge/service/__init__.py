"""The camera service: cameras watched at once, an HTTP API, a page."""
