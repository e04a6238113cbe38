"""SageMaker's options for its model parallel library are read as they are and made into a scenario."""
