"""What a configuration may say, and cannot mean. What is in doubt is not warned of."""
