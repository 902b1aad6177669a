"""The camera service: cameras that share one model, and the HTTP API in front of them."""
