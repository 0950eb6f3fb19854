"""TensorFlow Serving's model service, made of `model_service.proto` by `generate`."""
