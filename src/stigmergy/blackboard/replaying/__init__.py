"""A recorded run decided anew."""
