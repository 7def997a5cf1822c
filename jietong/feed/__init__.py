"""Files of others: a mapping (YAML) makes a platform of any CSV, JSON or XLSX file."""
