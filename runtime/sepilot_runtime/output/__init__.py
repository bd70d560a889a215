"""Where steering goes: servos, serial, network, files, the web page; and what watches over them."""
