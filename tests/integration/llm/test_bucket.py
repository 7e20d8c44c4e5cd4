"""Adapters in a bucket: what a pod copies from there is what was named, whole, and no larger than it may be."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloister_common.buckets import BucketSettings
from cloister_common.errors import InvalidRequest, Unavailable
from cloister_llm.adapters.folder import copy_of, digest_of
from cloister_llm.adapters.sources import Bucket as BucketSource

from tests.support import bucket as support
from tests.support.bucket import Bucket, bucket_of

_LARGE = 20 << 20
"""More than two ranges."""

_COPY = """
import json, pathlib, sys
from cloister_common.buckets import BucketSettings
from cloister_llm.adapters.folder import copy_of
from cloister_llm.adapters.sources import Bucket
settings, digest, copies = sys.argv[1:]
source = Bucket(BucketSettings.model_validate(json.loads(settings)))
copy_of(source, "zoo", digest, pathlib.Path(copies), max_mib=64)
"""
"""What a pod does, in a process that can be killed."""


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    (tmp_path / "root").mkdir()
    with bucket_of(tmp_path / "root", tmp_path) as opened:
        yield opened


@pytest.fixture
def source(bucket: Bucket) -> BucketSource:
    return BucketSource(BucketSettings.model_validate(bucket.settings))


def put(bucket: Bucket, folder: str, *, weights: bytes = b"weights") -> str:
    """An adapter in the bucket; its digest."""
    target = bucket.root / folder
    target.mkdir(parents=True)
    (target / "adapter_config.json").write_text("{}")
    (target / "adapter_model.safetensors").write_bytes(weights)
    return digest_of(target)


def test_an_adapter_of_many_ranges_is_copied_whole(bucket: Bucket, source: BucketSource, tmp_path: Path) -> None:
    weights = bytes(range(256)) * (_LARGE // 256) + b"and a little more"
    digest = put(bucket, "team/zoo-1", weights=weights)
    (bucket.root / "team/zoo-1/README.md").write_text("Not asked for.")
    copy = copy_of(source, "team/zoo-1", digest, tmp_path / "copies", max_mib=64)
    assert (copy / "adapter_model.safetensors").read_bytes() == weights
    assert sorted(file.name for file in copy.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert not [path for path, _ in bucket.asked if path.endswith("README.md")]
    asked = len(bucket.asked)
    assert copy_of(source, "team/zoo-1", digest, tmp_path / "copies", max_mib=64) == copy
    assert len(bucket.asked) == asked, "what is there already is not fetched again"


def test_what_is_not_what_was_named_is_not_kept(bucket: Bucket, source: BucketSource, tmp_path: Path) -> None:
    digest = put(bucket, "zoo")
    (bucket.root / "zoo/adapter_config.json").write_text('{"r": 64}')
    with pytest.raises(InvalidRequest) as raised:
        copy_of(source, "zoo", digest, tmp_path / "copies", max_mib=64)
    assert raised.value.error_code == "digest_mismatch"
    assert not list((tmp_path / "copies").iterdir())


def test_an_adapter_that_is_too_large_is_refused_before_it_is_fetched(
    bucket: Bucket, source: BucketSource, tmp_path: Path
) -> None:
    digest = put(bucket, "zoo", weights=bytes((1 << 20) + 1))
    with pytest.raises(InvalidRequest, match=r"larger than the 1 MiB .* Raise lora\.max_mib"):
        copy_of(source, "zoo", digest, tmp_path / "copies", max_mib=1)
    assert not [asked_range for _, asked_range in bucket.asked if asked_range]


@pytest.mark.parametrize("folder", ["../zoo", "zoo/..", "/zoo", "zoo//a", ".", "a/./b", "zoo\0", "zoo\n", "\ud800"])
def test_a_folder_that_leads_elsewhere_is_never_asked_for(
    bucket: Bucket, source: BucketSource, tmp_path: Path, folder: str
) -> None:
    with pytest.raises(InvalidRequest, match="is not a folder below"):
        copy_of(source, folder, f"sha256:{'0' * 64}", tmp_path / "copies", max_mib=64)
    assert not bucket.asked


def test_a_folder_with_pickles_or_nothing_says_so(bucket: Bucket, source: BucketSource, tmp_path: Path) -> None:
    digest = put(bucket, "zoo")
    (bucket.root / "zoo/adapter_model.safetensors").rename(bucket.root / "zoo/adapter_model.bin")
    with pytest.raises(InvalidRequest, match=r"lacks adapter_model\.safetensors\. Pickles are never loaded"):
        copy_of(source, "zoo", digest, tmp_path / "copies", max_mib=64)
    with pytest.raises(InvalidRequest, match=r"lacks adapter_config\.json and adapter_model\.safetensors\.$"):
        copy_of(source, "none", digest, tmp_path / "copies", max_mib=64)


def test_an_adapter_that_goes_while_it_is_fetched_is_told_as_gone(
    source: BucketSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "size", lambda *_: 7)
    with pytest.raises(InvalidRequest, match="cannot be copied: No such file"):
        copy_of(source, "gone", f"sha256:{'0' * 64}", tmp_path / "copies", max_mib=64)


def test_a_store_that_is_down_says_nothing_of_the_adapter(bucket: Bucket, source: BucketSource, tmp_path: Path) -> None:
    digest = put(bucket, "zoo")
    bucket.down = True
    with pytest.raises(Unavailable, match="does not answer"):
        copy_of(source, "zoo", digest, tmp_path / "copies", max_mib=64)
    bucket.down = False
    assert copy_of(source, "zoo", digest, tmp_path / "copies", max_mib=64).is_dir()


def test_a_key_that_may_not_read_is_told_apart_from_a_store_that_is_down(
    bucket: Bucket, source: BucketSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = put(bucket, "zoo")
    monkeypatch.setattr(support, "_KEY_ID", "somebody else")
    with pytest.raises(InvalidRequest, match="may not read it"):
        copy_of(source, "zoo", digest, tmp_path / "copies", max_mib=64)


def test_a_pod_killed_in_the_middle_of_it_leaves_nothing_that_is_ever_loaded(
    bucket: Bucket, source: BucketSource, tmp_path: Path
) -> None:
    digest = put(bucket, "zoo", weights=bytes(_LARGE))
    copies = tmp_path / "copies"
    bucket.holds.clear()
    told = [json.dumps(bucket.settings), digest, str(copies)]
    with subprocess.Popen([sys.executable, "-c", _COPY, *told]) as copying:
        assert bucket.half_sent.wait(120), "it asked for nothing"
        copying.kill()
    bucket.holds.set()
    (left,) = copies.iterdir()
    assert left.suffix == ".part"
    assert 0 < (left / "adapter_model.safetensors").stat().st_size < _LARGE
    copy = copy_of(source, "zoo", digest, copies, max_mib=64)
    assert digest_of(copy) == digest
    assert list(copies.iterdir()) == [copy]
