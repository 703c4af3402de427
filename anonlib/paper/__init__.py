"""What turns notebooks into figures, tables and verified claims."""
