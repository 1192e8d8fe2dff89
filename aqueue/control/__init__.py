"""What can be asked of a queue, who answers, and the conversation between the two."""
