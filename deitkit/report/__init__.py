"""One or several runs as a page that needs nothing else: report.html. Measures by `deitkit.analysis`, runs no model."""

from deitkit.report.page import Page, build_page, write_page

__all__ = ["Page", "build_page", "write_page"]
