"""Training: a cohort of students in lockstep under one teacher forward; a single run is a cohort of one."""
