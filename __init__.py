"""EdgeStream: a video-language model that watches a camera on your own device."""

__version__ = "0.1.0"
