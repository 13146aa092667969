"""Looking at data: every image decoded, statistics, a contact sheet; and whether images were trained on."""
