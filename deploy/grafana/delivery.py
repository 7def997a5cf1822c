"""The dashboard *Delivery* (交付): whether what was decided has reached everyone, and what stands in the way.

Every name of a metric is one of `jietong.around.metrics.METRICS`. Copies of a program read one table, and lag is told by
kafka_exporter and by our own programs under one name: queries take the largest of what is said of one thing, never the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import GraphDrawStyle, LegendDisplayMode, LegendPlacement, StackingMode
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)

__all__ = ["PANELS", "Ask", "Tile", "delivery", "encoded"]

NOTHING = " or on() vector(0)"
"""Where no series means that all is well, a panel says 0."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One query (PromQL) and what its lines are called."""

    query: str
    legend: str


@dataclass(frozen=True, slots=True)
class Tile:
    """One panel: what it is called, what it tells whom, in which unit, and from which value on it is red."""

    title: str
    tells: str
    unit: Literal["short", "s", "ops"]
    asks: Sequence[Ask]
    kind: Literal["number", "lines", "bands"] = "lines"
    red: float | None = None
    width: int = 12


def _quantile(q: float, of: str, by: str = "") -> str:
    rate = f"rate(jietong_commit_to_applied_seconds_bucket{{{of}}}[$__rate_interval])"
    return f"histogram_quantile({q}, sum by (le{by}) ({rate}))"


CHOSEN = 'service=~"$service"'
LEAD = 'service="hookup", topic="engineering.approval.decided.v1"'
PANELS: tuple[Tile, ...] = (
    Tile(
        "Standing alarms",
        "Each is a line in /readyz; docs/operations.md says what to do.",
        "short",
        [Ask("sum(max by (service, alarm) (jietong_alarms))" + NOTHING, "alarms")],
        "number", 1, 6,
    ),
    Tile(
        "Movements halted",
        "Stand still until a person's command.",
        "short",
        [Ask("sum(max by (movement) (jietong_movement_halted))", "halted")],
        "number", 1, 6,
    ),
    Tile(
        "Oldest unsent event",
        "Of all outboxes. Over a minute: the log or a relay is away.",
        "s",
        [Ask("max(jietong_outbox_oldest_seconds)", "oldest")],
        "number", 60, 6,
    ),
    Tile(
        "Dead events",
        "Wait for a person: jietong held.",
        "short",
        [Ask('sum(max by (service) (jietong_inbox_held_events{fate="dead"}))', "dead")],
        "number", 1, 6,
    ),
    Tile(
        "Commit → lead",
        "From the commit of an approval to the lead it opened: seconds that half, and all but one in a hundred, stayed under.",
        "s",
        [Ask(_quantile(q, LEAD), name) for q, name in ((0.5, "p50"), (0.99, "p99"))],
        red=1,
    ),
    Tile(
        "Commit → applied, by service (p99)",
        "From an event's commit at its owner to its effect at each reader.",
        "s",
        [Ask(_quantile(0.99, CHOSEN, ", service"), "{{service}}")],
    ),
    Tile(
        "Outbox depth",
        "Rows not yet acknowledged by the log.",
        "short",
        [Ask('max by (service) (jietong_outbox_rows{service=~"$service"})', "{{service}}")],
    ),
    Tile(
        "Outbox, oldest row",
        "Age of the oldest row not yet acknowledged; 0 when none waits.",
        "s",
        [Ask('max by (service) (jietong_outbox_oldest_seconds{service=~"$service"})', "{{service}}")],
        red=60,
    ),
    Tile(
        "Lag by consumer group",
        "Records not yet taken.",
        "short",
        [
            Ask(
                "sum by (consumergroup) (max by (consumergroup, topic, partition) (kafka_consumergroup_lag))",
                "{{consumergroup}}",
            )
        ],
    ),
    Tile(
        "Lag by topic",
        "The five that are furthest behind.",
        "short",
        [
            Ask(
                "topk(5, sum by (consumergroup, topic) (max by (consumergroup, topic, partition) (kafka_consumergroup_lag)))",
                "{{consumergroup}} {{topic}}",
            )
        ],
    ),
    Tile(
        "Inbox: fates by reason",
        "Fates that events got, a second, with the kind of their reason.",
        "ops",
        [
            Ask(
                'sum by (fate, reason) (rate(jietong_inbox_events_total{service=~"$service"}[$__rate_interval]))',
                "{{fate}} {{reason}}",
            )
        ],
        "bands",
    ),
    Tile(
        "Held events by service",
        "Waiting, parked, dead: what waits is in sight.",
        "short",
        [Ask('max by (service, fate) (jietong_inbox_held_events{service=~"$service"})', "{{service}} {{fate}}")],
        "bands",
    ),
    Tile(
        "Events taken",
        "Records a second, by service; and how many of them it already had, or say nothing about any stream.",
        "ops",
        [
            Ask('sum by (service) (rate(jietong_events_consumed_total{service=~"$service"}[$__rate_interval]))', "{{service}}"),
            Ask('sum(rate(jietong_events_duplicate_total{service=~"$service"}[$__rate_interval]))', "duplicates"),
            Ask('sum(rate(jietong_events_stray_total{service=~"$service"}[$__rate_interval]))', "strays"),
        ],
    ),
    Tile(
        "Alarms by kind",
        "Standing alarms, by service.",
        "short",
        [Ask('max by (service, alarm) (jietong_alarms{service=~"$service"})' + NOTHING, "{{service}} {{alarm}}")],
        "bands",
    ),
    Tile(
        "Movements that wait",
        "1 while something a movement needs is away: its database, the log, the registry, an operator.",
        "short",
        [Ask("max by (movement) (jietong_movement_waiting)", "{{movement}}")],
        "bands",
    ),
    Tile(
        "Movements that are halted",
        "1 while a movement stands still until a person's command.",
        "short",
        [Ask("max by (movement) (jietong_movement_halted)", "{{movement}}")],
        "bands", 1,
    ),
)  # fmt: skip


def delivery() -> Dashboard:
    """The dashboard, as Grafana's own types have it."""
    page = (
        dashboard.Dashboard("Delivery · 交付")
        .uid("jietong-delivery")
        .tags(["jietong"])
        .readonly()
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("Asia/Shanghai")
        .with_variable(dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("service")
            .label("Service")
            .datasource(SOURCE)
            .query("label_values(jietong_outbox_rows, service)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
            .all_value(".*")
        )
    )
    for tile in PANELS:
        page = page.with_panel(_panel(tile))
    return page.build()


SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")


def _panel(tile: Tile) -> stat.Panel | timeseries.Panel:
    panel = stat.Panel() if tile.kind == "number" else _lines(tile)
    panel = panel.title(tile.title).description(tile.tells).unit(tile.unit).datasource(SOURCE)
    panel = panel.span(tile.width).height(4 if tile.kind == "number" else 8).min(0)
    for at, ask in enumerate(tile.asks):
        panel = panel.with_target(
            prometheus.Dataquery().ref_id(chr(ord("A") + at)).expr(ask.query).legend_format(ask.legend)
        )
    if tile.red is None:
        return panel
    steps = [Threshold(value=None, color="green"), Threshold(value=tile.red, color="red")]
    return panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))


def _lines(tile: Tile) -> timeseries.Panel:
    legend = (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
    )
    panel = timeseries.Panel().draw_style(GraphDrawStyle.LINE).legend(legend).fill_opacity(10)
    if tile.kind == "bands":
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(40)
    return panel


def encoded() -> str:
    """The dashboard as the file that Grafana reads."""
    return JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False).encode(delivery()) + "\n"
