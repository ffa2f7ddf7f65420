"""The commands of `harness`, and the options that they share. Thin: each hands over to the core."""
