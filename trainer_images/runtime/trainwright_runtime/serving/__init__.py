"""What the publisher writes and the servers read: a served model's files, and the record that says what they must be."""
