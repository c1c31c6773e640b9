"""Keeping what one execution's code does from harming any other."""
