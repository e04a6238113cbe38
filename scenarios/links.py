"""What a scenario states about links stands in place of what its costs say of them: costs give compute.

A key of ``[hardware]`` is stated where it is written, or where its preset has it; what is there by default states
nothing. Costs that were calibrated over emulated links know these as they were configured: where the scenario states
the same, what was measured over them stays, and a latency always keeps what the machine added to it. A preset states
nothing beside links that were measured. Where links are the device's own, nothing that is stated changes them.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any

from loadahead.scenarios.tables import SEND_KEYS, Hardware
from loadahead.sim.costs import CONFIGURED, Costs, SharedLinks
from loadahead.sim.placement import Placement
from loadahead.sim.units import format_bytes, format_duration, format_rate


@dataclass(frozen=True, slots=True)
class _Key:
    """Says which fields of the costs a key of ``[hardware]`` is, and how it is shown in its unit."""

    fields: tuple[str, ...]
    show: Callable[[Any], str]
    unit: str
    is_latency: bool = False


_KEYS = {
    "d2h": _Key(("d2h_bandwidth",), format_rate, "B/s"),
    "h2d": _Key(("h2d_bandwidth",), format_rate, "B/s"),
    "link_latency": _Key(("d2h_latency_ns", "h2d_latency_ns"), format_duration, "ns", is_latency=True),
    "p2p": _Key(("p2p_latency_ns",), format_duration, "ns", is_latency=True),
    "p2p_bandwidth": _Key(("p2p_bandwidth",), format_rate, "B/s"),
    "memory": _Key(("memory_bytes",), format_bytes, "B"),
    "host_memory": _Key(("host_memory_bytes",), format_bytes, "B"),
}
# Keys of sends that calibrations do not know.
_HOSTS = {
    "p2p_link": _Key(("p2p_link",), str, ""),
    "gpu_network_bandwidth": _Key(("gpu_network_bandwidth",), format_rate, "B/s"),
    "network_latency": _Key(("network_latency_ns",), format_duration, "ns"),
}
_IDEAL_UNHEARD = 'hardware.communication = "ideal" has no effect on a GPU, whose links are its own'
_COUNTS = ("gpus_per_nic", "gpus_per_switch", "d2h_weight", "h2d_weight")
# Fields of the costs' ``shared``, whose names are those of the keys.
_SHARED = {
    name: _Key((name,), str, "") if name in _COUNTS else _Key((name,), format_rate, "B/s")
    for name in SharedLinks.model_fields
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Difference:
    """Holds a value that a scenario states, and those of the costs that are others, by field.

    ``preset`` is the row of the catalogue where the value comes from if it is not written. ``configured``: the costs'
    values are those of the emulated links that they were calibrated over.
    """

    name: str
    key: _Key
    stated: Any
    known: Mapping[str, Any]
    preset: str | None = None
    configured: bool = False

    @property
    def keeps_what_was_added(self) -> bool:
        """Whether the machine's part of a measured latency stays."""
        return self.key.is_latency and self.configured

    @property
    def is_news(self) -> bool:
        """Whether the costs say something else; most do not know what memory the host has, and how GPUs send."""
        known = any(value is not None for value in self.known.values())
        return known or (self.name != "host_memory" and self.name not in _HOSTS)

    def sentence(self, swept: bool) -> str:
        """Return that the value stands in place of the costs'."""
        stated, known = self._shown()
        if swept:
            what = f"hardware.{self.name}, as each point of the sweep has it,"
        elif self.preset is not None:
            what = f"hardware.{self.name} = {stated}, as {self.preset} has it,"
        else:
            what = f"hardware.{self.name} = {stated}, as the scenario states,"
        if self.keeps_what_was_added:
            return (
                f"{what} stands in place of the {known} that the costs were calibrated with; what the machine adds to "
                "it stays"
            )
        return f"{what} stands in place of the costs' {known}"

    def without_effect(self) -> str:
        """Return that the value changes nothing, as the links are the device's own."""
        stated, known = self._shown()
        return (
            f"hardware.{self.name} = {stated} has no effect on a GPU, whose links and memory are its own: the costs "
            f"have {known}"
        )

    def _shown(self) -> tuple[str, str]:
        """Return the stated value and the costs' as texts, which tell them apart however close they are."""
        known = list(dict.fromkeys(self.known.values()))
        show = self.key.show
        if show(self.stated) in [show(value) for value in known if value is not None]:
            show = lambda value: f"{value} {self.key.unit}"  # noqa: E731
        return show(self.stated), " and ".join("none" if value is None else show(value) for value in known)


def with_stated_links(
    costs: Costs,
    hardware: Hardware,
    placement: Placement,
    *,
    physical: bool = False,
    swept: Container[str] = (),
) -> tuple[Costs, tuple[str, ...]]:
    """Return the costs with the links that the hardware states, and a sentence for each key that differs.

    Args:
        costs: calibrated or written by hand; they are returned as they are where nothing differs.
        placement: where the scenario's processes stand, which it alone says.
        physical: the links are the device's own, so that the costs' stay; the sentences say so of what is written.
        swept: the keys, by their full paths, that are axes of a sweep: their sentence is the same at every point.
    """
    costs = costs if costs.placement == placement else costs.model_copy(update={"placement": placement})
    configured = {} if physical else costs.configured()
    of_preset = bool(configured) or not (physical or _is_calibrated(costs))
    found = [
        *_links(costs, hardware, configured, of_preset),
        *_of_hosts(costs, hardware, physical),
        *_shared(costs, hardware, physical),
    ]
    if physical:
        said = tuple(each.without_effect() for each in found if each.is_news)
        return costs, (*said, *([_IDEAL_UNHEARD] if hardware.is_ideal else []))
    if hardware.is_ideal:
        found = [each for each in found if each.name not in SEND_KEYS]
        costs = _without_sends(costs)
    unheard = () if of_preset else _unheard(costs, hardware, _preset_swept(swept))
    if not found:
        return costs, unheard
    sentences = tuple(each.sentence(_is_swept(each, swept)) for each in found if each.is_news)
    return _replaced(costs, found), (*sentences, *unheard)


def _without_sends(costs: Costs) -> Costs:
    """Return the costs with sends that take no time, over emulated links as well."""
    none = {"p2p_latency_ns": 0, "p2p_bandwidth": None}
    routes = dict.fromkeys(("p2p_link", "network_latency_ns", "gpu_network_bandwidth"))
    fields: dict[str, Any] = {**none, **routes}
    if costs.shared is not None:
        fields["shared"] = costs.shared.model_copy(update=dict.fromkeys(("network_bandwidth", "gpus_per_nic")))
    if configured := costs.configured():
        own = {field: value for field, value in none.items() if field in configured}
        fields["evidence"] = {**costs.evidence, CONFIGURED: configured | own}
    found = costs.model_copy(update=fields)
    return costs if found == costs else found


def _unheard(costs: Costs, hardware: Hardware, swept: bool) -> tuple[str, ...]:
    """Return that a preset's links and memory give way to those that were measured, where they differ."""
    differ = [
        f"hardware.{name}"
        for name, key in _KEYS.items()
        if hardware.stated(name) is None
        and (value := hardware.stated(name, with_preset=True)) is not None
        and any(getattr(costs, field) != value for field in key.fields)
    ]
    if not differ:
        return ()
    key = "preset" if hardware.machine is None else "machine"
    preset = f"hardware.{key}" if swept else f"hardware.{key} = {getattr(hardware, key)}"
    return (f"{preset} gives way to what the costs measured: write {', '.join(differ)} to set other values",)


def _is_calibrated(costs: Costs) -> bool:
    return "calibrated" in costs.source


def _preset_swept(swept: Container[str]) -> bool:
    return "hardware.preset" in swept or "hardware.machine" in swept


def _is_swept(each: _Difference, swept: Container[str]) -> bool:
    return f"hardware.{each.name}" in swept or (each.preset is not None and _preset_swept(swept))


def _links(
    costs: Costs, hardware: Hardware, configured: Mapping[str, int | None], of_preset: bool
) -> list[_Difference]:
    out = []
    for name, key in _KEYS.items():
        written = hardware.stated(name)
        stated = hardware.stated(name, with_preset=True) if of_preset else written
        known = {field: configured.get(field, getattr(costs, field)) for field in key.fields}
        other = {field: value for field, value in known.items() if value != stated}
        if stated is not None and other:
            preset = hardware.origin(name) if written is None else None
            found = _Difference(
                name=name, key=key, stated=stated, known=other, preset=preset, configured=bool(configured)
            )
            out.append(found)
    return out


def _of_hosts(costs: Costs, hardware: Hardware, physical: bool) -> list[_Difference]:
    """Return what the hardware states of sends, other than how quick one inside a host is."""
    out = []
    for name, key in _HOSTS.items():
        (field,) = key.fields
        known, written = getattr(costs, field), hardware.stated(name)
        stated = hardware.stated(name, with_preset=known is None and not physical)
        if stated is not None and stated != known:
            preset = hardware.origin(name) if written is None else None
            out.append(_Difference(name=name, key=key, stated=stated, known={field: known}, preset=preset))
    return out


def _shared(costs: Costs, hardware: Hardware, physical: bool) -> list[_Difference]:
    """Return what the hardware states of shared links; a machine states what the costs do not know."""
    shared, out = costs.shared or SharedLinks(), []
    for name, key in _SHARED.items():
        known, written = getattr(shared, name), hardware.stated(name)
        stated = hardware.stated(name, with_preset=known is None and not physical)
        if stated is not None and stated != known:
            preset = hardware.origin(name) if written is None else None
            out.append(_Difference(name=name, key=key, stated=stated, known={name: known}, preset=preset))
    return out


def _replaced(costs: Costs, found: list[_Difference]) -> Costs:
    """Return the costs with each stated value in its fields, and with links configured so where they were emulated."""
    fields: dict[str, Any] = {}
    shared: dict[str, int] = {}
    configured = costs.configured()
    for each in found:
        if each.name in _SHARED:
            shared[each.name] = each.stated
            continue
        for field, was in each.known.items():
            added = max(0, getattr(costs, field) - (was or 0)) if each.keeps_what_was_added else 0
            fields[field] = each.stated + added if added else each.stated
            configured |= {field: each.stated} if field in configured else {}
    if shared:
        fields["shared"] = (costs.shared or SharedLinks()).model_copy(update=shared)
    if configured:
        fields["evidence"] = {**costs.evidence, CONFIGURED: configured}
    return costs.model_copy(update=fields)
