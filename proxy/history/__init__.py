"""What happened, remembered: for the status page, the post-mortem and the next process."""
