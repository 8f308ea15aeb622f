"""Finding, choosing and recognising faces."""
