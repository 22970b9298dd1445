"""Where answers come from, one module a type. They know neither routes, nor cache, nor each other."""
