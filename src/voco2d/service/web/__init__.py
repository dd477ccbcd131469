"""Serves predictions over HTTP, with a page to upload and look at scans. Needs the extra `serve`."""
