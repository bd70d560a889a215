"""The report: one self-contained HTML page about a run, its files and how they drive.

    inputs.py      what the verbs left behind, read strictly
    material.py    everything that one page shows, gathered
    samples.py     held-out frames with what driver and model said
    charts.py      plots as inline SVG
    formatting.py  numbers as people read them
    page.py        the page, from templates/
"""
