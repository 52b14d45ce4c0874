"""What runs on a partner's side: the Python client of the exchange and what is built on it.

Nothing here imports `broker`: a partner needs this package and `protos`, not the exchange's own code.
"""
