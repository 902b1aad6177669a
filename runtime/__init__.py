"""What runs on the device. No PyTorch, no transformers, no onnx."""
