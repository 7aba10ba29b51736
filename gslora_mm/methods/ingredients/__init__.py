"""What methods are made of: one idea a file."""
