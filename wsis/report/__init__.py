"""Pictures of what a teacher or a student made."""
