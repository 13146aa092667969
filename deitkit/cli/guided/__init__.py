"""`deitkit` alone: questions, a summary, and the verb's own command. `questions` holds them; `flow` begins."""
