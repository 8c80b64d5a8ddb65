"""The long verbs: iterators of frozen steps. The caller owns the progress bar, the plots and the stopping."""
