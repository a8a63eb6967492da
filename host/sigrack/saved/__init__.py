"""What survives the host: the changes that control has made, and the states of plugins."""
