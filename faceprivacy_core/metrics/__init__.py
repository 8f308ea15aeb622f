"""What was achieved: similarity of faces, difference of pictures, and the report of both."""
