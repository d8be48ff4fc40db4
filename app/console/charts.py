"""Charts, drawn in the browser and repeated as tables; both link to the rows behind them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from app.domain.texts import Text
from app.services.formatting import escaped

Say = Callable[[Text], str]
"""Picks the visitor's language."""


@dataclass(frozen=True, slots=True)
class Series:
    """A value and a link for each label of the chart. `colors` are names of CSS variables: one for all, or one each."""

    name: str
    values: list[int]
    links: list[str]
    colors: list[str]


@dataclass(frozen=True, slots=True)
class Chart:
    """What `console.js` draws. Texts may come from clients. `heading` names the labels."""

    kind: Literal["bar", "line", "doughnut"]
    heading: str
    labels: list[str]
    series: list[Series]
    stacked: bool = False
    horizontal: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether all values are zero."""
        return not any(value for series in self.series for value in series.values)

    @property
    def rows(self) -> Iterator[tuple[str, list[tuple[int, str]]]]:
        """The rows of the table: each label with its values and their links."""
        for index, label in enumerate(self.labels):
            yield label, [(series.values[index], series.links[index]) for series in self.series]

    @property
    def spec(self) -> dict[str, Any]:
        """The chart as the canvas element carries it."""
        return {
            "type": self.kind,
            "labels": [escaped(label) for label in self.labels],
            "stacked": self.stacked,
            "horizontal": self.horizontal,
            "series": [
                {
                    "name": escaped(series.name),
                    "values": series.values,
                    "links": series.links,
                    **({"color": series.colors[0]} if len(series.colors) == 1 else {"colors": series.colors}),
                }
                for series in self.series
            ],
        }
