"""`doctor`: says what would keep a student from seeing, on live topics or in a bag, before any student runs."""
