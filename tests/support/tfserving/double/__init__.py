"""A double of TensorFlow Serving: it really loads SavedModels and runs them, and speaks the published protocols."""
