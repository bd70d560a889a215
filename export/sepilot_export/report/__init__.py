"""The report: one self-contained HTML page about a run, its files and how they drive.

fields.py, exports.py, measurements.py
               what export, check, bench and closed-loop left behind, read strictly
material.py    everything that one page shows, gathered
samples.py     held-out frames with what driver and model said
charts.py      plots as inline SVG
formatting.py  numbers as people read them
page.py        the page, from templates/
"""
