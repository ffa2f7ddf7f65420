"""Where the fits of a plan are carried out."""
