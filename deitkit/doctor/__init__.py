"""Whether this machine is fit for deitkit: one small function a check, one table of them. Changes nothing."""
