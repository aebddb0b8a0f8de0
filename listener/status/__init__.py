"""Status: one document that `listener status`, the status page and its API all show."""
