"""Report kind `table`: the printed table as a picture, the paper's numbers beside ours."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.canvas import Canvas
from reports.captions import caption_lines
from reports.shown import Shown
from reports.statistics import Agreement
from reports.tables import Bold, printed

MOST_LINES = 60
_LINE_INCHES = 0.26
_LETTER_INCHES = 0.085
_TOP = 0.35


def draw_table(shown: Shown, agreement: Agreement | None) -> Figure:
    """The first lines of the table as a picture, with the booktabs look of table.tex."""
    whole = printed(shown)
    frame = whole.head(MOST_LINES)
    widths = [_LETTER_INCHES * (3 + max(len(str(text)) for text in (name, *frame[name]))) for name in frame.columns]
    caption = caption_lines(shown, agreement)
    if len(frame) < len(whole):
        caption.insert(0, f"The first {len(frame)} of {len(whole)} lines; all are in table.csv.")
    bottom = _TOP + _LINE_INCHES * (len(frame) + 0.55)
    canvas = Canvas(shown.manifest, caption, sum(widths) + 0.4, bottom + 0.25)
    for number, name in enumerate(frame.columns):
        x = 0.2 + sum(widths[:number])
        canvas.put(x, _TOP, name, weight="bold")
        for line, text in enumerate(frame[name], start=1):
            canvas.put(x, _TOP + line * _LINE_INCHES, text, weight="bold" if isinstance(text, Bold) else "normal")
    left, right = 0.2 / canvas.width, (0.2 + sum(widths)) / canvas.width
    for y, weight in ((_TOP - 0.16, 1.2), (_TOP + 0.13, 0.6), (bottom, 1.2)):
        height = canvas.height_of(y)
        canvas.figure.add_artist(Line2D([left, right], [height, height], color="black", linewidth=weight))
    return canvas.figure
