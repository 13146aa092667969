"""Fixtures that analyses share."""

from tests.predictions.conftest import decided as decided
