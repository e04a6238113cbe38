"""Reports what a run cost, predicted beside measured: comparison, tables, pictures, one page.

Only this package draws. It imports matplotlib and pandas where they are used, so that its own import is quick.
"""
