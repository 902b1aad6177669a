"""What is kept of the stream: key frames and dialogue inside one byte budget."""
