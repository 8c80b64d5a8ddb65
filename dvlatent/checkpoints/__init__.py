"""Files to networks: other people's weights are fetched and read here, ours are kept here."""
