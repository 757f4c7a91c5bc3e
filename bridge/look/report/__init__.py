"""A page that shows a plan or a store: written to one file, or served live."""
