"""Many runs of one question: a grid, random draws or Optuna over recipe keys and seeds, each run a run of its own."""
