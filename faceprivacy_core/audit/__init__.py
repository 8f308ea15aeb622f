"""Looks for what a file gives away: keys, prompts, places, names, devices, hidden pictures."""
