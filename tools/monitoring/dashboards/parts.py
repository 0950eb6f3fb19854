"""Parts of dashboards, as all of ours look: each panel has a title, a sentence on how to read it, a unit, and limits."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import common, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as styles
from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

TAG = "trainwright"
DATASOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"
Query = tuple[str, str]
"""An expression, and the legend of its lines."""
PanelBuilder = Builder[dashboard.Panel]


def limits(*steps: tuple[float | None, str]) -> build.ThresholdsConfig:
    """Colours from a value on; the first has no value."""
    return (
        build.ThresholdsConfig()
        .mode(dashboard.ThresholdsMode.ABSOLUTE)
        .steps([dashboard.Threshold(value=value, color=colour) for value, colour in steps])
    )


def lines(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    stacked: bool = False,
    width: int = 8,
    height: int = 8,
    highest: float | None = None,
    log: bool = False,
    at: tuple[float, str] | None = None,
) -> PanelBuilder:
    """Values over time. `at`: a value and a colour, from which on the background is shaded."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .span(width)
        .height(height)
        .line_width(1.5)
        .fill_opacity(25 if stacked else 5)
        .show_points(styles.VisibilityMode.NEVER)
        .span_nulls(False)
        .legend(
            common.VizLegendOptions()
            .display_mode(styles.LegendDisplayMode.TABLE)
            .placement(styles.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(common.VizTooltipOptions().mode(styles.TooltipDisplayMode.MULTI).sort(styles.SortOrder.DESCENDING))
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(styles.StackingMode.NORMAL).group("A"))
    if log:
        panel = panel.scale_distribution(common.ScaleDistributionConfig().type(styles.ScaleDistribution.LOG).log(10))
    else:
        panel = panel.axis_soft_min(0)
    if highest is not None:
        panel = panel.max(highest)
    if at is not None:
        panel = panel.thresholds(limits((None, "transparent"), at)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(styles.GraphTresholdsStyleMode.AREA)
        )
    for number, (expression, legend) in enumerate(queries):
        panel = panel.with_target(_query(expression, legend, number))
    return panel


def number(
    title: str,
    description: str,
    expression: str,
    *,
    unit: str = "short",
    decimals: int | None = None,
    colours: build.ThresholdsConfig | None = None,
    width: int = 4,
    legend: str = "",
) -> PanelBuilder:
    """One value, large, with its course behind it."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .span(width)
        .height(4)
        .graph_mode(styles.BigValueGraphMode.AREA)
        .color_mode(styles.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(colours or limits((None, BLUE)))
        .no_value("–")
        .with_target(_query(expression, legend, 0))
    )
    return panel if decimals is None else panel.decimals(decimals)


def states(title: str, description: str, expression: str, legend: str, *, width: int = 24) -> PanelBuilder:
    """Which of several states hold, over time: a bar for each."""
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .span(width)
        .height(5)
        .merge_values(True)
        .show_value(styles.VisibilityMode.NEVER)
        .legend(common.VizLegendOptions().show_legend(False))
        .thresholds(limits((None, "transparent"), (1, GREEN)))
        .with_target(_query(expression, legend, 0))
    )


def rows(
    title: str,
    description: str,
    columns: Sequence[tuple[str, str, str]],
    *,
    by: Sequence[str],
    link: str | None = None,
    width: int = 24,
) -> PanelBuilder:
    """A table with a row for each set of the labels `by`. `columns`: name, expression, unit; `link`: where a job's name leads."""
    panel = table.Panel().title(title).description(description).datasource(DATASOURCE).span(width).height(9)
    letters = [chr(ord("A") + place) for place in range(len(columns))]
    for letter, (_, expression, _) in zip(letters, columns, strict=True):
        panel = panel.with_target(
            prometheus.Dataquery().expr(expression).instant().format(PromQueryFormat.TABLE).ref_id(letter).datasource(DATASOURCE)
        )
    names = {f"Value #{letter}": name for letter, (name, _, _) in zip(letters, columns, strict=True)}
    panel = panel.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={})).with_transformation(
        dashboard.DataTransformerConfig(
            id_val="filterFieldsByName", options={"include": {"names": [*by, *(f"Value #{letter}" for letter in letters)]}}
        )
    )
    panel = panel.with_transformation(
        dashboard.DataTransformerConfig(
            id_val="organize", options={"renameByName": names, "indexByName": {}, "excludeByName": {}}
        )
    )
    for name, _, unit in columns:
        panel = panel.override_by_name(name, [dashboard.DynamicConfigValue(id_val="unit", value=unit)])
    if link is not None:
        to = [{"title": "Open the job", "url": link}]
        panel = panel.override_by_name("job", [dashboard.DynamicConfigValue(id_val="links", value=to)])
    return panel


def board(
    uid: str,
    title: str,
    description: str,
    variables: Sequence[Builder[dashboard.VariableModel]],
    sections: dict[str, Sequence[PanelBuilder]],
    *,
    since: str = "now-6h",
    annotations: Sequence[Builder[dashboard.AnnotationQuery]] = (),
) -> dashboard.Dashboard:
    """A dashboard of sections, each a title and its panels; with links to the others."""
    made = (
        build.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .time(since, "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(
            build.DashboardLink("Trainwright")
            .type(dashboard.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(False)
            .keep_time(True)
            .include_vars(True)
        )
        .with_variable(build.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for variable in variables:
        made = made.with_variable(variable)
    for annotation in annotations:
        made = made.annotation(annotation)
    for name, panels in sections.items():
        made = made.with_row(build.Row(name))
        for panel in panels:
            made = made.with_panel(panel)
    return made.build()


def choice(name: str, label: str, query: str, *, several: bool) -> Builder[dashboard.VariableModel]:
    """A variable whose values are a label's: `label_values(metric, label)`."""
    variable = (
        build.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(query)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    )
    return variable.multi(True).include_all(True).all_value(".*") if several else variable.multi(False)


def event(name: str, expression: str, colour: str = RED) -> Builder[dashboard.AnnotationQuery]:
    """Vertical marks where the expression holds."""
    return build.AnnotationQuery().name(name).datasource(DATASOURCE).enable(True).icon_color(colour).expr(expression)


def _query(expression: str, legend: str, place: int) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .expr(" ".join(expression.split()))
        .legend_format(legend or "__auto")
        .range()
        .ref_id(chr(ord("A") + place))
        .datasource(DATASOURCE)
    )
