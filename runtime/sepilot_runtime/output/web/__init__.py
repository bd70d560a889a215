"""The web page of a running drive: `sepilot drive … --web`. Needs the extra `web`; see docs/web.md.

In the drive:
options      `--web` on the command line
address      where to listen, and who may look
page         the port, the page's own process, and the thread that answers it
drive        what the drive tells that process, and does for it
feed         the sink, and the memory in which the page's process reads the steps
pictures     the newest frame: into that memory, and as JPEG

In the page's process:
server       its beginning and end
crowd        who is connected, and who has to give way
connections  one of them: a request at a time
app          the requests it answers
guesses      how long a wrong token waits
news         waiting for a step or a picture
link         asking the drive
status       everything the page shows, as plain values
static/      the page itself
"""
