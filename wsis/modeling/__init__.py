"""Shared Detectron2 modules; importing it registers them."""
