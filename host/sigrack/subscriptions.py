"""What a plugin may subscribe to: factors that are posted, and what feeds bring."""

from collections.abc import Iterable, Mapping, Sequence

from sigrack.errors import nearest
from sigrack.reaper import Thing
from sigrack.slot import Slot
from sigrack.tables import FeedTable
from sigrack_engine.data import DataError, normalised

__all__ = ["Posted", "check_subscription", "posted"]


Posted = Mapping[str, Sequence[str] | None]
"""The symbols of each source; None: nobody knows."""


def posted(things: Iterable[Thing]) -> Posted:
    """Return the symbols that each of `things` may post. [any]"""
    symbols = {thing.name: _symbols(thing) for thing in things}
    return {name: names for name, names in symbols.items() if names is None or names}


def _symbols(thing: Thing) -> list[str] | None:
    if not isinstance(thing, Slot):
        return thing.table.symbols
    return None if thing.held else list(thing.plugin.factors)


def check_subscription(factors: Posted, tables: Iterable[FeedTable], source: str | None, symbol: str | None) -> set[str | None]:
    """Return the forms of `symbol` to look for: as it is in factors, normalised in what feeds bring. [any]

    `factors`: what each source posts; `tables`: the feeds. Raises KeyError unless one of them may bring it.
    """
    feeds = {table.name: table.symbols and [normalised(name) for name in table.symbols] for table in tables}
    sources: dict[str, Sequence[str] | None] = {**factors, **feeds}
    if source is not None and source not in sources:
        raise KeyError(f'no source "{source}" posts factors, and there is no such feed{nearest(source, list(sources))}')
    if symbol is None:
        return {None}
    forms = {symbol} if source is not None and source not in feeds else _forms(symbol, factors=source is None)
    lists = [sources[source]] if source is not None else list(sources.values())
    symbols = sorted({name for names in lists for name in names or ()})
    if None not in lists and forms.isdisjoint(symbols):  # a feed without a list, and who is held back, may bring any symbol
        raise KeyError(f'{source or "no source"} does not post "{symbol}"{nearest(symbol, symbols)}')
    return {*forms}


def _forms(symbol: str, *, factors: bool) -> set[str]:
    """Return the form of a symbol in what feeds bring, with `factors` also as it is. Raises KeyError if it can have none."""
    try:
        return {normalised(symbol), symbol} if factors else {normalised(symbol)}
    except DataError as error:
        if factors:
            return {symbol}
        raise KeyError(str(error)) from None
