"""What a new configuration means for slots that run."""

from sigrack.config import Config, Document
from sigrack.slot import Slot

__all__ = ["can_stay", "check_kept"]


def check_kept(document: Document, slot: Slot) -> None:
    """Raise ConfigError if a running slot cannot take its new parameters. [main]"""
    for index, table in enumerate(document.config.slot):
        if table.name != slot.name:
            continue
        if table.bypass and slot.core is None:
            document.fail(("slot", index, "bypass"), f'"{slot.name}" only listens: there is nothing to bypass')
        for name, value in table.params.items():
            try:
                slot.param(name).check(value)
            except ValueError as error:
                document.fail(("slot", index, "params", name), f"{slot.name}: {error}")


def can_stay(slot: Slot, config: Config) -> bool:
    """Whether a running slot can go on under a new configuration: same plugin, same fixed options. [main]"""
    for table in config.slot:
        if table.name == slot.name:
            return (table.plugin, table.config) == (slot.table.plugin, slot.table.config) and not (
                set(table.params) - set(slot.values)
            )
    return False
