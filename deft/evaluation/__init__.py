"""Decisions to numbers: scores with intervals, baselines, speed, the leaderboard and the report."""
