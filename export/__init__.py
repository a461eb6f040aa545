"""The offline path: interactions -> train -> evaluate -> precompute -> bundle. The only place with torch."""
