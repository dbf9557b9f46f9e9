"""The data path of completion-proxy and everything around it."""
