"""Which one of several things a picture shows: a traffic sign, a kind of rubbish, a person."""
