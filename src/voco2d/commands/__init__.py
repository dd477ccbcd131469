"""The commands behind `voco2d`, one module each with a `run`; imported only when called."""
