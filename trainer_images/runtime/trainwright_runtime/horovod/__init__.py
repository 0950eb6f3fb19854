"""Where a gang of Horovod's meets, and its exchange between ranks."""
