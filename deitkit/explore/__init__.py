"""Predictions in FiftyOne, to look at the images behind a number. The only package that imports fiftyone."""

from deitkit.explore.app import ADDRESS as ADDRESS
from deitkit.explore.app import PORT as PORT
from deitkit.explore.app import connect as connect
from deitkit.explore.app import launch as launch
from deitkit.explore.dataset import build_dataset as build_dataset
