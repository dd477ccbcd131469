"""Loss functions of pretraining and grading."""
