.ci/gpu-check: line 8: /nonexistent/python: No such file or directory
make: *** [Makefile:45: gpu-check] Error 2
