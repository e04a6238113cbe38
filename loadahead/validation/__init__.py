"""A validation: many configurations, each predicted and then run, beside other implementations."""
