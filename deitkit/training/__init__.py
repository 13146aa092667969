"""Training: one function, `fit.train_run`, for every verb that trains; beside it what it is made of."""
