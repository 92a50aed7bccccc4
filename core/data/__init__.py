"""Data sets as uint8 pictures: what is there (`inspect`), made ready (`prepare`), for a run (`load`).

A picture is the same bits whether it comes from the decoded cache or from a stream, so where and how
pictures are kept is machine-only. `inspect`, and `prepare` of the synthetic set and of folders, do
without torch.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.config import DataConfig
from core.data.cache import CachedSplit
from core.data.decode import Unreadable
from core.data.folder import ImageFolder
from core.data.named import NamedSet
from core.data.source import SPLITS, Source, SplitName, shown
from core.data.subset import subset
from core.data.synthetic import Synthetic
from core.errors import Cause, InvalidValue, RunFailed, UserError

if TYPE_CHECKING:
    from core.data.pictures import Pictures

log = logging.getLogger(__name__)

BAD_SHOWN = 10
"""Pictures that cannot be decoded and are named in the log; the cache's manifest has them all."""
ENDINGS_SHOWN = 5


@dataclass(frozen=True)
class DatasetInfo:
    """The facts of a data set that a plan needs."""

    train_count: int
    test_count: int
    classes: tuple[str, ...]
    fingerprint: str
    bytes: int
    """Size of the decoded pictures, whether cached or streamed."""
    cached: bool
    """Whether `prepare` has nothing left to do."""
    streamed: bool
    """Whether pictures are decoded whenever they are used, because they outgrow `cache_gb`."""
    bad: tuple[str, ...]
    """Names of the pictures that cannot be decoded, as far as `prepare` has seen; not in the counts."""
    others: tuple[str, ...] = ()
    """Endings of files that lie among the pictures and are not used, such as "3 .gif"."""


def inspect(config: DataConfig) -> DatasetInfo:
    """Look at a data set without reading pictures that are known.

    Raises: UserError if it is not there, or is no data set (a folder that is missing, empty, has one
    class, has no test pictures, or other classes for testing than for training).
    """
    source = _source(config)
    splits = _splits(config, source)
    manifests = {name: split.manifest() for name, split in splits.items()}
    if isinstance(source, NamedSet) and not all(manifests.values()):
        source.require()
    counts = {
        name: manifest["count"] if manifest else _count(config, source, name) for name, manifest in manifests.items()
    }
    return DatasetInfo(
        train_count=counts["train"],
        test_count=counts["test"],
        classes=source.classes,
        fingerprint=source.fingerprint,
        bytes=_bytes(config, source),
        cached=all(manifests.values()),
        streamed=_is_streamed(config, source),
        bad=tuple(name for manifest in manifests.values() if manifest for name in manifest["bad"]),
        others=_others(source),
    )


def prepare(config: DataConfig, progress: Callable[[int, int], None] | None) -> None:
    """Decode what is not yet decoded; safe when several processes do it at once.

    `progress` is called with (pictures done, pictures in all). Pictures too many for `cache_gb` are
    decoded once as well, without keeping them, so that a run never meets one that cannot be decoded.

    Raises: UserError if more than `max_bad` pictures cannot be decoded, or the disk is full.
    """
    _prepare(config, _source(config), progress)


def load(config: DataConfig, split: SplitName) -> "Pictures":
    """The pictures of one split, prepared here if nobody did.

    Raises: UserError as `inspect` and `prepare`; RunFailed if `config.fingerprint` names other pictures
    than are there.
    """
    from core.data.pictures import CachedPictures, StreamedPictures

    if config.fingerprint:
        # The fingerprint names the pixels: a cached split needs no look at the files it came from.
        cached = CachedSplit(config, config.fingerprint, split, streamed=False)
        manifest = cached.manifest()
        if manifest:
            return CachedPictures(cached.pictures(), cached.labels(), manifest["classes"])
    source = _source(config)
    manifest = _prepare(config, source, None)[split]
    cached = _splits(config, source)[split]
    if not isinstance(source, ImageFolder) or not _is_streamed(config, source):
        return CachedPictures(cached.pictures(), cached.labels(), source.classes)
    names = source.names(split)
    chosen = (names[row] for row in subset(names, source.labels(split), _wanted(config, split)))
    good = [name for name in chosen if name not in manifest["bad"]]
    return StreamedPictures(source.root, good, config.stored_size, config.workers, cached.labels(), source.classes)


def _prepare(
    config: DataConfig, source: Source, progress: Callable[[int, int], None] | None
) -> dict[SplitName, dict[str, Any]]:
    if config.fingerprint not in ("", source.fingerprint):
        where = f"in {shown(config.root)}" if config.root else f"of data.name={config.name}"
        raise RunFailed(Cause.BAD_DATA, f"the pictures {where} are not those that the run was planned with")
    splits = _splits(config, source)
    manifests = {split: cached.manifest() for split, cached in splits.items()}
    total = sum(_count(config, source, split) for split in SPLITS if manifests[split] is None)
    done = 0

    def advance(pictures: int) -> None:
        nonlocal done
        done += pictures
        if progress:
            progress(done, total)

    try:
        ready = {split: manifests[split] or cached.build(source, advance) for split, cached in splits.items()}
    except Unreadable as error:
        raise UserError(f"a picture cannot be read just now, try again: {shown(str(error))}") from None
    except OSError as error:
        raise _unwritable(config, error) from None
    _report_bad(config, {name: reason for manifest in ready.values() for name, reason in manifest["bad"].items()})
    return ready


def _source(config: DataConfig) -> Source:
    root = os.path.expanduser(config.root)
    match config.name:
        case "synthetic":
            return Synthetic(config.train_size, config.test_size)
        case "image_folder":
            try:
                return ImageFolder(root, config.cache_dir)
            except OSError as error:
                raise _unwritable(config, error) from None
        case name:
            return NamedSet(name, root or os.path.join(config.cache_dir, "torchvision"), config.download)


def _splits(config: DataConfig, source: Source) -> dict[SplitName, CachedSplit]:
    streamed = _is_streamed(config, source)
    return {split: CachedSplit(config, source.fingerprint, split, streamed) for split in SPLITS}


def _wanted(config: DataConfig, split: SplitName) -> int:
    return config.train_size if split == "train" else config.test_size


def _count(config: DataConfig, source: Source, split: SplitName) -> int:
    there = source.count(split)
    return min(_wanted(config, split) or there, there)


def _others(source: Source) -> tuple[str, ...]:
    if not isinstance(source, ImageFolder):
        return ()
    named = sorted(source.others.items(), key=lambda entry: (-entry[1], entry[0]))[:ENDINGS_SHOWN]
    rest = source.others.total() - sum(count for _, count in named)
    shown_counts = [f"{count} {shown(ending) or 'without one'}" for ending, count in named]
    return (*shown_counts, f"{rest} others") if rest else tuple(shown_counts)


def _bytes(config: DataConfig, source: Source) -> int:
    return sum(_count(config, source, split) for split in SPLITS) * 3 * config.stored_size**2


def _is_streamed(config: DataConfig, source: Source) -> bool:
    return source.streams and _bytes(config, source) > config.cache_gb * 1e9


def _unwritable(config: DataConfig, error: OSError) -> InvalidValue:
    """The error for a cache folder in which nothing can be written."""
    return InvalidValue("data.cache_dir", shown(config.cache_dir), f"cannot keep decoded pictures: {error.strerror}")


def _report_bad(config: DataConfig, bad: dict[str, str]) -> None:
    if not bad:
        return
    lines = [f"{shown(name)}: {shown(reason)}" for name, reason in bad.items()]
    count = f"{len(bad)} picture{'s' if len(bad) > 1 else ''} cannot be decoded"
    if len(bad) > config.max_bad:
        raise InvalidValue("data.max_bad", config.max_bad, f"{count}, the first is {lines[0]}")
    for line in lines[:BAD_SHOWN]:
        log.warning("skipped %s", line)
    log.warning("%s and are skipped (data.max_bad=%d)", count, config.max_bad)
