"""What reports say, in several languages: one file of phrases for each, and fonts that have all their letters."""
