"""What runs a board in an event loop: appends before it shows, and runs bodies."""
