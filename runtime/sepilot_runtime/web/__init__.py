"""The web page of a running drive: `sepilot drive … --web`. Needs the extra `web`; see docs/web.md.

options   `--web` on the command line
address   where to listen, and who may look
feed      the sink: what the page knows of the steps
pictures  the newest frame as JPEG, made when somebody looks
status    everything the page shows, as plain values
app       the requests it answers
server    the thread that answers them
static/   the page itself
"""
