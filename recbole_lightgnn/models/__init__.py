"""LightGNN's teacher, intermediate model and student, as RecBole general recommenders."""
