"""The forms in which images and labels lie on disk, whichever data set they are."""
