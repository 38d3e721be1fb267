"""What each part of the system is trained to do."""
