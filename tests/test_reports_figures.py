"""Every kind of figure on invented results of the paper's studies: what a reader sees, and that nothing is cut off."""

from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from core.errors import UserError
from reports import figures, tables
from reports.build import Report, load
from tests.invented import invent, near_the_paper, study_grid

UNTRAINED = {"untrained": {"label": "untrained encoder", "set": {"train.epochs": 0}}}
BATCHES = {
    "title": "Batch size and length of training",
    "axes": {"train.batch_size": [256, 8192], "train.epochs": [100, 200, 300, 400]},
    "report": {"kind": "bars", "x": "train.batch_size", "hue": "train.epochs"},
    "labels": {"train.batch_size": "batch size", "train.epochs": "epochs"},
    "references": UNTRAINED,
    "paper": {
        "source": "fig9",
        "where": "Figure 9",
        "numbers": [{"path": [{"axis": "train.batch_size"}, {"axis": "train.epochs", "position_in": "epochs"}]}],
    },
}
LENGTHS = {
    "title": "Length of training",
    "axes": {"train.epochs": [50, 100, 200, 3200]},
    "evaluations": {"linear": {}, "finetune_1": {"kind": "finetune"}},
    "labels": {"train.epochs": "epochs"},
    "report": {
        "kind": "lines",
        "x": "train.epochs",
        "hue": "measured",
        "metrics": {"linear.top1": {"measured": "linear"}, "finetune_1.top1": {"measured": "fine-tuned"}},
    },
    "paper": {
        "source": "figB5",
        "where": "Figure B.5",
        "numbers": [
            {"when": {"measured": measured}, "path": [block, {"axis": "train.epochs", "position_in": "epochs"}]}
            for measured, block in (("linear", "linear"), ("fine-tuned", "ft1"))
        ],
    },
}
SIZES = {
    "R18": {"encoder.depth": 18},
    "R50": {"encoder.depth": 50},
    "R50(2x)": {"encoder.depth": 50, "encoder.width": 2},
}
ENCODERS = {
    "title": "Depth and width of the encoder",
    "axes": {"size": SIZES},
    "report": {"kind": "scatter", "x": "train.parameters", "names": "size"},
    "paper": {
        "source": "fig7",
        "where": "Figure 7",
        "numbers": [
            {"path": ["ours_100_epochs", {"axis": "size"}, 1]},
            {"metric": "train.parameters", "path": ["ours_100_epochs", {"axis": "size"}, 0]},
        ],
    },
}
PROBES = {
    "axes": {},
    "evaluations": ["histograms"],
    "metric": "histograms.found",
    "report": {"kind": "panel", "figure": "histograms", "evaluation": "histograms"},
}
LOSSES = {
    "axes": {},
    "evaluations": ["loss_gradients"],
    "metric": "loss_gradients.hard_nt_xent",
    "report": {"kind": "panel", "figure": "loss_gradients", "evaluation": "loss_gradients"},
}
SHARES = [[[0.25, 0.75], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0]]]
HISTOGRAMS = {
    "bins": 2,
    "pictures": [{"picture": 3, "class": "bird"}, {"picture": 9, "class": "ship"}],
    "crops": SHARES,
    "distorted": SHARES,
}
GRADIENTS = {
    "temperature": 0.1,
    "margin": 0.8,
    "positive": 0.5,
    "similarity": [-1.0, 0.0, 1.0],
    "kind": ["easy", "semi_hard", "hard"],
    "losses": [
        {
            "name": name,
            "title": title,
            "negative_loss": "u^T v+ - log sum exp(u^T v)",
            "gradient": "v+ - v-",
            "autograd_difference": 1e-16,
            "weights": {},
            "curve": [0.0, 0.5, 2.0],
        }
        for name, title in (
            ("nt_xent", "NT-Xent"),
            ("nt_logistic", "NT-Logistic"),
            ("margin_triplet", "Margin Triplet"),
        )
    ],
}
STUDIES: dict[str, tuple[dict[str, Any], Any]] = {
    "bars": (BATCHES, None),
    "panels of bars": (
        {**BATCHES, "report": {"kind": "bars", "x": "train.epochs", "panels": "train.batch_size"}},
        None,
    ),
    "lines": (LENGTHS, None),
    "scatter": (ENCODERS, None),
    "histograms": (PROBES, HISTOGRAMS),
    "loss_gradients": (LOSSES, GRADIENTS),
    "table": ({**BATCHES, "report": {"kind": "table", "rows": "train.batch_size", "columns": "train.epochs"}}, None),
}


def report(folder, study: dict[str, Any], *arguments: str, gap: dict[str, Any] | None = None, data=None) -> Report:
    """On numbers 20 points below the paper's; `gap`: the values of the cells that are missing."""
    grid = study_grid(folder, study, *arguments)
    near = near_the_paper(grid)

    def value(values, metric, seed):
        is_gap = gap is not None and values and gap.items() <= values.items()
        return (
            None
            if is_gap
            else abs(near(values, metric, seed))
            if metric == "train.parameters"
            else near(values, metric, seed)
        )

    return load(invent(grid, value, data))


def texts(figure: Figure) -> list[str]:
    parts = [*figure.axes, *figure.legends]
    found = [text.get_text() for part in parts for text in [*part.texts] if text.get_text()]
    found += [axes.get_title(loc="left") for axes in figure.axes] + [text.get_text() for text in figure.texts]
    ticks = [tick.get_text() for axes in figure.axes for tick in [*axes.get_xticklabels(), *axes.get_yticklabels()]]
    return [*found, *ticks, *(axes.get_xlabel() for axes in figure.axes), *(axes.get_ylabel() for axes in figure.axes)]


@pytest.mark.parametrize("kind", STUDIES)
def test_no_text_leaves_the_figure_and_the_same_numbers_give_the_same_bytes(tmp_path, kind):
    study, data = STUDIES[kind]
    made = report(tmp_path, study, "seeds=2", data=data)
    figure = made.figure()
    first = figures.svg(figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    width, height = figure.get_size_inches() * figure.dpi
    beyond = _beyond(figure)
    drawn = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible() and text not in beyond]
    boxes = {text.get_text(): text.get_window_extent(renderer) for text in drawn}
    assert [text for text, box in boxes.items() if not _inside(box, width, height)] == []
    assert "synthetic data, scale mini: not the paper's setting" in texts(figure)
    assert figures.svg(made.figure()) == first


def _beyond(figure: Figure) -> set[Text]:
    """Labels of ticks outside the range that is shown, which matplotlib makes but does not draw."""
    found = set()
    for axes in figure.axes:
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not low <= tick.get_loc() <= high:
                    found.add(tick.label1)
    return found


def _inside(box, width: float, height: float) -> bool:
    return box.x0 >= -1 and box.x1 <= width + 1 and box.y0 >= -1 and box.y1 <= height + 1


@pytest.mark.parametrize("kind", STUDIES)
def test_without_any_result_the_figure_says_so(tmp_path, kind):
    study, _ = STUDIES[kind]
    grid = study_grid(tmp_path, study)
    shown = " ".join(texts(load(invent(grid, lambda *_: None)).figure()))
    assert any(word in shown for word in ("no cell has a number yet", "no run is evaluated yet", "missing"))


def test_bars_stand_in_groups_beside_the_papers_with_gaps_and_the_reference(tmp_path):
    made = report(tmp_path, BATCHES, "seeds=3", gap={"train.batch_size": 256, "train.epochs": 200})
    ours, paper = made.figure().axes
    assert (ours.get_title(loc="left"), paper.get_title(loc="left")) == ("This study", "The paper, Figure 9")
    assert [tick.get_text() for tick in ours.get_xticklabels()] == ["256", "8192"]
    assert [text.get_text() for text in paper.texts] == ["57.5", "61.9", "63.6", "64.7", "64.8", "66.6", "67.4", "67.8"]
    assert [text.get_text() for text in ours.texts].count("missing") == 1
    assert len(ours.containers) == 8 + 7  # bars, one of them hatched, and the intervals of the others
    assert any(line.get_linestyle() == "--" for line in ours.lines)
    shades = {to_hex(bar.patches[0].get_facecolor()) for bar in paper.containers}
    assert len(shades) == 4


def test_panels_have_a_frame_for_each_value(tmp_path):
    study, _ = STUDIES["panels of bars"]
    titles = [axes.get_title(loc="left") for axes in report(tmp_path, study).figure().axes]
    assert titles == [
        "This study: 256",
        "The paper, Figure 9: 256",
        "This study: 8192",
        "The paper, Figure 9: 8192",
    ]


def test_lines_are_on_a_logarithmic_scale_where_values_double(tmp_path):
    made = report(tmp_path, LENGTHS, gap={"train.epochs": 3200})
    ours, paper = made.figure().axes
    assert ours.get_xscale() == paper.get_xscale() == "log"
    assert [tick.get_text() for tick in ours.get_xticklabels()] == ["50", "100", "200", "3200"]
    drawn = [line for line in paper.lines if line.get_linestyle() == "-"]
    assert [list(line.get_ydata()) for line in drawn] == [[61.5, 64.5, 66.8, 70.2], [35.6, 39.5, 42.9, 50.7]]
    assert [len(line.get_xdata()) for line in ours.lines if line.get_marker() in "os" and len(line.get_xdata())] == [
        3,
        3,
    ]
    crosses = [line for line in ours.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert [list(line.get_xdata()) for line in crosses] == [[3200], [3200]]


def test_lines_at_uneven_numbers_are_on_a_linear_scale(tmp_path):
    study = {"axes": {"train.epochs": [100, 150, 300]}, "report": {"kind": "lines", "x": "train.epochs"}}
    (axes,) = report(tmp_path, study).figure().axes
    assert axes.get_xscale() == "linear"


def test_scatter_names_its_points_and_what_is_missing(tmp_path):
    ours, paper = report(tmp_path, ENCODERS, gap={"size": "R18"}).figure().axes
    assert sorted(text.get_text() for text in paper.texts) == ["R18", "R50", "R50(2x)"]
    (points,) = [line for line in paper.lines if len(line.get_xdata())]
    assert list(points.get_xdata()) == [11, 24, 94]
    assert list(points.get_ydata()) == [50.4, 64.5, 69.7]
    assert "no number yet:\nR18 (missing)" in [text.get_text() for text in ours.texts]


def test_histograms_of_two_pictures_without_and_with_distortion(tmp_path):
    shown = report(tmp_path, PROBES, data=HISTOGRAMS).figure()
    assert len(shown.axes) == 2 * 2 * 2
    assert [bar.get_height() for bar in shown.axes[0].patches] == [0.25, 0.75]
    assert {"picture 1\n(bird)", "picture 2\n(ship)"} <= set(texts(shown))


def test_losses_are_drawn_with_their_formulas(tmp_path):
    shown = report(tmp_path, LOSSES, data=GRADIENTS).figure()
    assert {"NT-Xent", "NT-Logistic", "Margin Triplet", "easy", "semi-hard", "hard", "the positive"} <= set(
        texts(shown)
    )
    assert shown.axes[0].get_yscale() == "log"
    assert "gradient for u:  v+ - v-" in texts(shown)


def test_a_panel_that_does_not_exist_is_refused(tmp_path):
    study = {**PROBES, "report": {**PROBES["report"], "figure": "histogram"}}
    with pytest.raises(UserError, match=r"own.yaml: report.figure=histogram: input should be 'histograms'"):
        study_grid(tmp_path, study)
    study = {**PROBES, "report": {**PROBES["report"], "evaluation": "linear"}}
    with pytest.raises(UserError, match=r"own.yaml: unknown report.evaluation 'linear': allowed: histograms"):
        study_grid(tmp_path, study)


def test_many_columns_have_the_papers_numbers_below_ours(tmp_path):
    study, _ = STUDIES["table"]
    frame = tables.printed(report(tmp_path, study, "seeds=2").shown)
    assert frame.iloc[:, 0].tolist() == ["256", "256, paper", "8192", "8192, paper"]
    assert frame["200"].tolist()[1::2] == ["61.9", "66.6"]
    assert frame["200"][0].startswith("4")


def test_two_metrics_have_the_papers_numbers_beside_ours_and_published_rows_below(tmp_path):
    width = {"axis": "encoder.width", "names": {1: "ResNet-50", 2: "ResNet-50 (2x)"}}
    columns = {"1%": "top5_1pct", "10%": "top5_10pct"}
    study = {
        "axes": {"encoder.width": [1, 2]},
        "evaluations": {"one": {"kind": "finetune"}, "ten": {"kind": "finetune", "labels": 0.1}},
        "metric": "one.top5",
        "references": UNTRAINED,
        "report": {"kind": "table", "metrics": {"one.top5": {"labels": "1%"}, "ten.top5": {"labels": "10%"}}},
        "paper": {
            "source": "table7",
            "where": "Table 7",
            "numbers": [
                {
                    "when": {"labels": labels},
                    "path": [{"row": {"method": "SimCLR", "architecture": width}, "column": column}],
                }
                for labels, column in columns.items()
            ],
            "others": [
                {"leave_out": {"method": "SimCLR"}, "metrics": {"one.top5": "top5_1pct", "ten.top5": "top5_10pct"}}
            ],
        },
    }
    frame = tables.printed(report(tmp_path, study).shown)
    assert frame.columns.tolist() == ["encoder.width", "1%", "1%, paper", "10%", "10%, paper"]
    assert frame["1%, paper"].tolist()[:2] == ["75.5", "83.0"]
    assert frame["10%, paper"].tolist()[:2] == ["87.8", "91.2"]
    assert frame.iloc[2, 0] == "untrained encoder"
    others = frame.set_index("encoder.width")
    assert len(frame) == 3 + 10
    assert others.loc["PIRL, ResNet-50"].tolist() == ["", "57.2", "", "83.8"]
    assert others.loc["UDA (w. RandAug), ResNet-50"].tolist() == ["", "", "", "88.5"]
