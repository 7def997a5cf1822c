"""What departments without a platform of their own have imported (`jietong import`) on its way into the log."""
