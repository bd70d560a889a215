"""Named points of one thing: a face's eyes and mouth, a hand's joints, the place on the road that a car drives to."""
