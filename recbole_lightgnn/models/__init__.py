"""Teacher, intermediate and student as RecBole general recommenders."""
