"""The URL of the store: one server, or the Sentinels of a service; what is wrong with one, and what is shown of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Final

import pytest

from celeriac.errors import SettingsError
from celeriac.settings import load_settings
from celeriac.settings.store_address import StoreAddress, masked, read_store_address
from celeriac_tasks.compatibility.broker import store_url_of
from celeriac_tasks.compatibility.sentinels import as_celery_url, celery_options

SECRET: Final = "s3cr3t"
FULL: Final = (
    f"rediss+sentinel://me:{SECRET}@h1:26379,h2,[::1]:7/my%20service/3"
    f"?sentinel_username=watcher&sentinel_password={SECRET}2&ssl_ca_certs=/etc/ca.pem"
)


def test_a_url_with_sentinels_says_everything() -> None:
    found = read_store_address(FULL)
    assert found.sentinels == (("h1", 26379), ("h2", 26379), ("::1", 7))
    assert (found.service, found.database, found.tls, found.sentinel_tls) == ("my service", 3, True, True)
    assert (found.sentinel_username, found.sentinel_password) == ("watcher", f"{SECRET}2")
    assert found.server_url == f"rediss://me:{SECRET}@sentinel/3?ssl_ca_certs=/etc/ca.pem"
    assert SECRET not in f"{found!r} {found}"


@pytest.mark.parametrize(
    ("url", "sentinels"),
    [
        ("redis+sentinel://h/s", (("h", 26379),)),
        ("REDIS+SENTINEL://h:1/s/", (("h", 1),)),
        ("redis+sentinel://:p%40ss%2F@h:1,i:2/s/0", (("h", 1), ("i", 2))),
        ("redis+sentinel://127.0.0.1:1,[fe80::1]/s/0?sentinel_tls=true", (("127.0.0.1", 1), ("fe80::1", 26379))),
        ("redis://h", ()),
        ("rediss://u:p@h:1/2?ssl_cert_reqs=none", ()),
        ("unix:///run/redis.sock?db=1", ()),
    ],
)
def test_each_form_is_read(url: str, sentinels: tuple[tuple[str, int], ...]) -> None:
    assert read_store_address(url).sentinels == sentinels


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("localhost:6379", "has no scheme: write redis://"),
        (f"{SECRET}@localhost", "has no scheme: write redis://"),
        (f"http://u:{SECRET}@h/0", "has the scheme http://"),
        (f"sentinel://u:{SECRET}@h/0", "has the scheme sentinel://"),
        (f"{SECRET}!://h", "has no scheme"),
        (f"redis+sentinel://u:{SECRET}@h:1", "names no service"),
        (f"redis+sentinel://u:{SECRET}@h:1/", "names no service"),
        (f"redis+sentinel://u:{SECRET}@h:1/s/x", "a database that is not a number"),
        (f"redis+sentinel://u:{SECRET}@h:1/s/0/1", "a database that is not a number"),
        (f"redis+sentinel://u:{SECRET}@/s/0", "a Sentinel without a host"),
        (f"redis+sentinel://u:{SECRET}@h:1,,i:2/s/0", "a Sentinel without a host"),
        (f"redis+sentinel://u:{SECRET}@h:x/s/0", "a Sentinel whose port is not a number"),
        (f"redis+sentinel://u:{SECRET}@h:70000/s/0", "a Sentinel whose port is not a number"),
        (f"redis+sentinel://u:{SECRET}@h i:1/s/0", "a Sentinel whose host is neither"),
        (f"redis+sentinel://u:{SECRET}@h:1/s/0?db=1", "write the database after the service"),
        (f"redis+sentinel://u:{SECRET}@h:1/s/0?sentinel_tls=maybe", "neither true nor false"),
    ],
)
def test_a_wrong_url_is_refused_with_what_to_write_and_without_its_password(url: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong.replace("+", r"\+")) as refused:
        read_store_address(url)
    assert SECRET not in str(refused.value)
    with pytest.raises(SettingsError, match="redis_url") as also:
        load_settings(None, {"redis_url": url}, environ={})
    assert SECRET not in str(also.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:p@h:1/0", "redis://:***@h:1/0"),
        ("redis://u:p@h", "redis://u:***@h"),
        ("redis://p@h", "redis://***@h"),
        ("redis://h/0", "redis://h/0"),
        ("redis+sentinel://u:p@a:1,b:2/s/0?sentinel_password=q&sentinel_username=w",
         "redis+sentinel://u:***@a:1,b:2/s/0?sentinel_password=***&sentinel_username=w"),
        ("redis+sentinel://u:a/b@c@h/s", "redis+sentinel://u:***@h/s"),
        ("rediss://h?password=p&ssl_password=q", "rediss://h?password=***&ssl_password=***"),
        ("u:p@h", "***@h"),
    ],
)  # fmt: skip
def test_what_is_shown_has_no_password(url: str, shown: str) -> None:
    assert masked(url) == shown


def app_with(url: str, options: dict[str, Any], tls: Any = None) -> Any:
    conf = SimpleNamespace(broker_write_url=None, broker_url=url, broker_use_ssl=tls, broker_transport_options=options)
    return SimpleNamespace(conf=conf)


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://h1:26379,h2:26379/s/0",
        "redis+sentinel://me:p%40%2F@h1:1,[::1]:2/my%20service/3?sentinel_password=q%26",
        "rediss+sentinel://:p@h1:1/s/0?sentinel_username=w&sentinel_password=q",
        "redis+sentinel://:p@h1:1/s/0?sentinel_tls=true",
    ],
)
def test_celerys_settings_and_the_url_say_the_same(url: str) -> None:
    address = read_store_address(url)
    celery = as_celery_url(url)
    assert celery.count("sentinel://") == len(address.sentinels)
    found = store_url_of(app_with(celery, celery_options(address), tls=address.tls or None))
    assert found is not None
    again = read_store_address(found)
    assert _facts(again) == _facts(address)
    assert store_url_of(app_with(url, {})) == url


def test_what_is_not_a_service_stays_as_it_is() -> None:
    assert [as_celery_url(url) for url in ("redis://h", "amqp://h//", None)] == ["redis://h", "amqp://h//", None]
    assert celery_options(read_store_address("redis://h")) == {}
    assert store_url_of(app_with("sentinel://h:1;sentinel://i:1", {})) is None


def _facts(address: StoreAddress) -> tuple[Any, ...]:
    return (
        address.sentinels, address.service, address.database, address.tls, address.sentinel_tls,
        address.sentinel_username, address.sentinel_password, address.server_url,
    )  # fmt: skip
