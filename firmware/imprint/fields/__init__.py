"""What an identity may hold, a module a journey: see imprint.identity."""
