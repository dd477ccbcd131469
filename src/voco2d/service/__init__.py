"""Serves predictions to other programs: a DICOM node and a web service, each with an extra of its own."""
