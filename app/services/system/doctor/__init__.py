"""The checks of `cardctl doctor`: `facts` and `gather` collect, the other modules check, `checks` lists every check."""
