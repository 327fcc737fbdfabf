"""What serves the report: the study, its claims, words and figures, and the page itself."""
