"""What every room may stand on: files that are whole or not there, and sentences that help."""
