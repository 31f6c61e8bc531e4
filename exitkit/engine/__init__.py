"""Run a bundle: one segment after the other, each image as deep as its policy asks. No torch."""
