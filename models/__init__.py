"""The PyTorch definitions: families, connectors, extractor, gate, indexer."""
