"""The one-way road from a checkpoint to a bundle."""
