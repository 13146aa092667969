"""Looking at data before training on them: every image decoded, statistics, a contact sheet."""
