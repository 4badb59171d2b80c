"""`doctor`: what would keep a student from seeing, found on live topics or in a bag before any student runs."""
