"""The interface of the page, `/api/console`: what only the page needs. It may change with the page."""
