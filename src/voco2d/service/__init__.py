"""Serves predictions to other programs: a DICOM node. Needs the extra `dicom`."""
