"""Boxes and masks in the forms of labelling tools, in and out; see docs/formats.md."""
