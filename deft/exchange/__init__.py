"""Files in and out that other tools read."""
