"""Finds a search space by the name that architectures carry."""

from difflib import get_close_matches
from functools import cache

from workbench.spaces import allocation, channel_dilation, dilation, layers, residual, shuffle
from workbench.spaces.space import SearchSpace


def space_names() -> tuple[str, ...]:
    """All names; dilation spaces over other allocations (`dilation-resnet50-1.3.5.7`) exist besides these.

    So do spaces of dilations by channel (`channel-dilation-resnet50-n16-C`), for any number of groups that fits, and
    of layers around a seed network (`layers-mobilenetv2-4.4.4.4.4.1`), for any depths.
    """
    prefixes = (allocation.PREFIX, dilation.PREFIX)
    return (*shuffle.LAYOUTS, *(prefix + backbone for prefix in prefixes for backbone in residual.LAYOUTS))


@cache
def space_named(name: str) -> SearchSpace:
    """The one `SearchSpace` object of that name; ValueError lists the spaces that exist."""
    if name in shuffle.LAYOUTS:
        return shuffle.shuffle_space(name)
    if name.startswith(dilation.PREFIX):
        return dilation.dilation_space(name)
    if name.startswith(channel_dilation.PREFIX):
        return channel_dilation.channel_dilation_space(name)
    if name.startswith(layers.PREFIX):
        return layers.layer_space(name)
    if name not in space_names():
        near = get_close_matches(name, space_names(), 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"A search space is one of {', '.join(space_names())}; got {name!r}.{hint}")
    return allocation.allocation_space(name.removeprefix(allocation.PREFIX))
