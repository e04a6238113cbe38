"""`loadahead validate`: many configurations, each predicted and then run, beside other implementations."""
