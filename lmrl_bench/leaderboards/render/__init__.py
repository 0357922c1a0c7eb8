"""Pages, files and plots of a board, all made from one `BoardTable`.

The same table gives the same bytes.
"""
