"""One room per paper, and the baselines that any of them must beat; importing it registers all."""
