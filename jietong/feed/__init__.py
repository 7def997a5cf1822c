"""Files of others: a mapping (YAML) makes a platform of any CSV or JSON file."""
