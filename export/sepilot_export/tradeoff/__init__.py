"""Which file to put on the car: every file at hand, judged on the same frames and timed side by side.

discovery.py       run and export directories among the paths that were named
auto_export.py     exports of the runs that have none
lineage.py         the commands that made a file
common_frames.py   the frames that all files are judged on
candidate.py       a file with its figures
measurement.py     those figures: checked anew, timed interleaved
pareto.py          the Pareto front and the three picks
job.py             all of it in order
table.py           JSON and the terminal's table
charts.py page.py  PNG and HTML, from templates/ and the report's
"""
