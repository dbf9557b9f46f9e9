"""Is an upstream well? Judgement alone: no HTTP, no metrics, no settings, and never an import of `proxy`."""
