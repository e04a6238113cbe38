"""What a run cost, predicted beside measured: comparison, tables, pictures, one page.

Only this package draws; matplotlib, pandas and rich are imported where they are used, so ``import reports`` is quick.
"""
