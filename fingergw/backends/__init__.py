"""The built-in types of backends, one module each. They know neither routes, nor cache, nor each other."""
