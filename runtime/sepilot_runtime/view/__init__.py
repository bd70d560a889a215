"""Pictures for people: overlays, contact sheets, videos."""
