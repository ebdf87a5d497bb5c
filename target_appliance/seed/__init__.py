"""A replica's first point from images that somebody carried here: read where they are, never copied in the clear."""
